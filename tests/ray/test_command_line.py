"""``--ray``: the same rows as of a run in one process, whoever is killed; and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm.cli import run
from tests.ray.rows import texts_of
from tests.tiny import tiny_model

N_ROWS = 6 * 1024 + 100
BAD = (17, 3000)
PROGRAM = "from splinellm.cli import main; main()"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    texts: list[str | None] = [*texts_of(N_ROWS)]
    for row in BAD:
        texts[row] = None
    pq.write_table(pa.table({"id": range(N_ROWS), "text": texts}), path, row_group_size=1000)
    return path


def options_of(model: str) -> list[str]:
    return ["--model", model, "--features", "sign_mean", "--on-error", "skip", "-q"]


@pytest.fixture(scope="module")
def plain(rows: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    output = tmp_path_factory.mktemp("plain") / "out.parquet"
    command = ["extract", str(rows), "-o", str(output), "--row-numbers", *options_of(model)]
    assert run(command) == 0
    return pq.read_table(output)


def started(*arguments: str, before: str = "") -> subprocess.Popen[str]:
    """A process of its own, since Ray leaves threads behind; and something to kill."""
    return subprocess.Popen(
        [sys.executable, "-c", before + PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    printed, said = process.communicate(timeout=600)
    assert printed == "", "standard output is for data"
    return process.returncode, said


def require_equal(folder: Path, plain: pa.Table) -> None:
    parts = sorted(folder.glob("part-*.parquet"))
    assert pa.concat_tables(map(pq.read_table, parts)).equals(plain)
    rejects = [
        json.loads(line)
        for path in sorted((folder / "_rejects").iterdir())
        for line in path.read_text().splitlines()
    ]
    assert [reject["columns"]["id"] for reject in rejects] == list(BAD)
    assert not (folder / "_partial").exists()
    provenance = json.loads((folder / "_run.json").read_text())["made_by"]
    assert json.loads(provenance["features"]) == ["sign_mean"]


def wait_for(seen: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"ended too early: {process.communicate()[1]}")
        if found := seen():
            return found
        time.sleep(0.01)
    pytest.fail("never seen")


def computing(process: subprocess.Popen[str], folder: Path) -> psutil.Process | None:
    """A worker in the middle of a share that has a part already."""
    if not any((folder / "_partial").glob("*/part-*.arrow")):
        return None
    for each in psutil.Process(process.pid).children(recursive=True):
        try:
            if "ray::Worker.run" in " ".join(each.cmdline()):
                return each
        except psutil.NoSuchProcess:
            continue
    return None


def has_done_a_share(folder: Path) -> bool:
    record = folder / "_run.json"
    return record.exists() and bool(json.loads(record.read_text())["done"])


@pytest.mark.parametrize("n_cpus", [2, 4])
def test_the_rows_are_those_of_one_process(
    n_cpus: int, rows: Path, model: str, plain: pa.Table, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    cluster = f"import ray; ray.init('local', num_cpus={n_cpus}, object_store_memory=100 << 20); "
    out = str(tmp_path / "out") + "/"
    command = ["extract", str(rows), "-o", out, "--ray", "local", *options_of(model)]
    code, said = ended(started(*command, before=cluster))
    assert code == 0, said
    assert f"{N_ROWS - 2:,} rows written, 2 rejected" in said
    require_equal(tmp_path / "out", plain)


def test_a_worker_is_killed(rows: Path, model: str, plain: pa.Table, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    out = tmp_path / "out"
    command = ["extract", str(rows), "-o", f"{out}/", "--ray", "local", "--ray-cpus", "0.5"]
    process = started(*command, "--ray-workers", "2", *options_of(model))
    wait_for(lambda: computing(process, out), process).kill()
    code, said = ended(process)
    assert code == 0, said
    assert "warning: a worker ended over share" in said
    require_equal(out, plain)


def test_the_run_is_ended_and_goes_on(
    rows: Path, model: str, plain: pa.Table, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    out = tmp_path / "out"
    command = ["extract", str(rows), "-o", f"{out}/", "--ray", "local", *options_of(model)]
    process = started(*command)
    wait_for(lambda: has_done_a_share(out), process)
    os.kill(process.pid, signal.SIGTERM)
    code, said = ended(process)
    assert code == 143, said
    assert "--resume goes on" in said
    code, said = ended(started(*command, "--layers", "0", "--resume"))
    assert (code, "--layers was the default, now it is 0" in said) == (1, True)
    code, said = ended(started(*command, "--resume"))
    assert (code, "of them computed before" in said) == (0, True), said
    require_equal(out, plain)


def test_what_is_done_is_compared_and_not_done_again(tmp_path: Path, model: str) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    (tmp_path / "in.csv").write_text("text\nOne.\nTwo.\n")
    copied = tmp_path / "model"
    shutil.copytree(model, copied)
    command = ["extract", f"{tmp_path}/in.csv", "-o", f"{tmp_path}/out/", "--ray", "local"]
    command += ["--model", str(copied), "--features", "sign_mean", "--resume"]
    assert ended(started(*command))[0] == 0
    (part,) = (tmp_path / "out").glob("part-*.parquet")
    before = part.stat().st_mtime_ns
    code, said = ended(started(*command))
    assert (code, said) == (
        0,
        f"splinellm: already done: 2 rows in {tmp_path}/out/; nothing to compute\n",
    )
    assert part.stat().st_mtime_ns == before
    tiny_model("llama", seed=1).save_pretrained(copied)
    code, said = ended(started(*command))
    assert (code, "cannot go on with" in said) == (1, True), said


def test_verdicts(rows: Path, classifier: str, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    command = ["predict", classifier, str(rows), "--on-error", "skip", "-q", "-o"]
    assert run([*command, str(tmp_path / "plain.parquet"), "--row-numbers"]) == 0
    code, said = ended(started(*command, f"{tmp_path}/out/", "--ray", "local"))
    assert code == 0, said
    parts = sorted((tmp_path / "out").glob("part-*.parquet"))
    found = pa.concat_tables(map(pq.read_table, parts))
    assert found.equals(pq.read_table(tmp_path / "plain.parquet"))


@pytest.mark.parametrize(
    ("given", "code", "reason"),
    [
        (["--ray-cpus", "5000"], 1, "a worker is to have 5000 CPUs, and no machine has more than"),
        (["--on-error", "fail"], 1, "row 18: column 'text': the text is missing"),
    ],
)
def test_what_a_cluster_cannot_do(
    given: list[str], code: int, reason: str, rows: Path, model: str, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    command = ["extract", str(rows), "-o", f"{tmp_path}/out/", "--ray", "local"]
    found, said = ended(started(*command, *options_of(model), *given))
    assert (found, reason in said) == (code, True), said


@pytest.mark.parametrize(
    ("given", "code", "reason"),
    [
        (["-o", "out.parquet", "--ray", "local"], 2, "--ray writes into a folder"),
        (["-o", "out/", "--ray", "local", "--shard", "1/2"], 2, "give one of the two"),
        (["-o", "out/", "--ray", "local", "--ray-workers", "3-1"], 2, "no number of workers"),
        (["-o", "out/", "--ray", "somewhere"], 2, "no address of a Ray cluster"),
        (["-o", "out/", "--ray", "127.0.0.1:1"], 1, "nothing answers at '127.0.0.1:1'"),
    ],
)
def test_what_is_refused(
    given: list[str],
    code: int,
    reason: str,
    rows: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.chdir(tmp_path)
    assert run(["extract", str(rows), *options_of(model), *given]) == code
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_ray_is_not_there(
    rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["extract", str(rows), "-o", f"{tmp_path}/out/", "--ray", "local"]) == 2
    assert "pip install 'splinellm[ray]'" in capsys.readouterr().err


def test_rows_have_numbers(tmp_path: Path, model: str) -> None:
    for name, text in (("a.csv", 'text\nOne.\n""\nThree.\n'), ("b.csv", "text\nFour.\n")):
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    out = str(tmp_path / "out.parquet")
    assert run(["extract", *files, "-o", out, "--row-numbers", *options_of(model)]) == 0
    table = pq.read_table(out)
    assert table["row"].to_pylist() == [0, 2, 3]
    assert table["text"].to_pylist() == ["One.", "Three.", "Four."]


def test_a_column_is_in_the_way(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("row,text\n7,One.\n")
    out = str(tmp_path / "out.parquet")
    command = ["extract", str(tmp_path / "a.csv"), "-o", out, *options_of(model)]
    assert run(command) == 0
    assert pq.read_table(out)["row"].to_pylist() == [7]
    assert run([*command, "--row-numbers", "--force"]) == 1
    assert "'row'" in capsys.readouterr().err
