"""The command line, killed at random moments: benchmarks/kills.py in small, and what it sees."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kills.py"


def test_nothing_is_lost() -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "3", "--formats", "parquet,csv,jsonl.gz"]
    command += ["--rows", "600", "--chunk-rows", "40", "--features", "sign_mean"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    _, *told = ended.stdout.splitlines()
    assert [line.split()[:3] for line in told] == [
        [suffix, "3", "kills:"] for suffix in ("parquet", "csv", "jsonl.gz")
    ]
    assert all(line.endswith("equal") for line in told)


@pytest.mark.parametrize(
    ("end", "content"),
    [("", b"id\n1\n"), (".rejects.jsonl", None), (".provenance.json", b"{}")],
)
def test_what_is_lost_would_be_seen(tmp_path: Path, end: str, content: bytes | None) -> None:
    script: dict[str, Any] = runpy.run_path(str(SCRIPT))
    require_whole: Callable[[Path, dict[str, bytes]], None] = script["require_whole"]
    output = tmp_path / "out.csv"
    for other in script["ENDS"]:
        output.with_name(output.name + other).write_bytes(b"id\n1\n2\n")
    plain = script["files_of"](output)
    require_whole(output, plain)
    changed = output.with_name(output.name + end)
    if content is None:
        changed.unlink()
    else:
        changed.write_bytes(content)
    with pytest.raises(SystemExit, match="another content"):
        require_whole(output, plain)
    changed.write_bytes(plain[end])
    output.with_name("out.csv.partial").mkdir()
    with pytest.raises(SystemExit, match="parts are left"):
        require_whole(output, plain)
