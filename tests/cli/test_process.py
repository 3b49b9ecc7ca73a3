"""What shows only in a process of its own: imports, pipes, exit codes, warnings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAKE_MAIN = """
import warnings
from splinellm import cli
from splinellm.cli import loading
from tests.fakes import FakeExtractor

def load(**settings):
    warnings.warn("two\\nlines", UserWarning)
    return FakeExtractor.from_pretrained(**settings)

loading.load_extractor = load
cli.main()
"""
ROOT = Path(__file__).parents[2]


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPLINELLM_")}
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-c", FAKE_MAIN, *arguments],
        **{"stderr": subprocess.PIPE, "text": True} | options,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("arguments", [["--help"], ["extract", "--help"], ["models", "--help"]])
def test_help_imports_nothing_slow(arguments: list[str]) -> None:
    script = f"""
import sys
from splinellm.cli import run
assert run({arguments!r}) == 0
slow = {{"torch", "transformers", "numpy", "pandas", "pyarrow", "rich"}} & set(sys.modules)
assert not slow, slow
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: splinellm" in done.stdout


def test_broken_pipe_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"text {i}\n" for i in range(20_000)))
    process = start("extract", "in.txt", "-o", "-", cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().startswith('{"text": "text 0"')
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == "splinellm: warning: two lines\n"
    assert process.wait(60) == 141


def test_full_standard_output(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    with open("/dev/full", "w") as full:
        process = start("extract", "in.txt", "-o", "-", cwd=tmp_path, stdout=full)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    message = "cannot write to standard output: No space left on device"
    assert stderr.splitlines()[1:] == [f"splinellm: error: {message}"]


@pytest.mark.parametrize(
    ("closed", "arguments", "message"),
    [
        (1, ["in.txt", "-o", "-"], "cannot write to standard output: Bad file descriptor"),
        (0, ["-", "-o", "-"], "cannot read 'stdin': Bad file descriptor"),
    ],
)
def test_closed_standard_streams(
    tmp_path: Path, closed: int, arguments: list[str], message: str
) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    process = start("extract", *arguments, cwd=tmp_path, preexec_fn=lambda: os.close(closed))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.splitlines()[-1:] == [f"splinellm: error: {message}"]


def test_nothing_on_standard_input_is_no_row(tmp_path: Path) -> None:
    process = start(
        "extract", "-", "-o", "-", cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (0, ""), stderr


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_stream_is_no_part_of_the_output(tmp_path: Path, closed: int) -> None:
    (tmp_path / "in.txt").write_text("a\nb\n")
    process = start(
        "extract", "in.txt", "-o", "out.csv", cwd=tmp_path, preexec_fn=lambda: os.close(closed)
    )
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "out.csv").read_text().startswith("text,n_tokens")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3


def test_progress_bar_is_for_terminals_only(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    (tmp_path / "in.txt").write_text("a\nb\n")
    for option, shown in (("--on-error=fail", True), ("-q", False)):
        terminal, theirs = pty.openpty()
        process = start("extract", "in.txt", "-o", "out.npz", option, cwd=tmp_path, stderr=theirs)
        os.close(theirs)
        output = b""
        try:
            while block := os.read(terminal, 4096):
                output += block
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(terminal)
        assert process.wait(60) == 0
        assert (b"tokens/s" in output) is shown
