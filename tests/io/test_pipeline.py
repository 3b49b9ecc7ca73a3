"""Bad rows, failures in the middle, and what is left on the disk afterwards."""

from __future__ import annotations

import io
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm.errors import ConfigurationError, InputFileError, OutputError, RowError
from splinellm.io.features import FeatureAnnotator
from splinellm.io.pipeline import annotate_rows
from splinellm.io.readers import open_source
from splinellm.io.sink import open_sink
from splinellm.table import FeatureTable
from tests.fakes import FakeExtractor
from tests.io.files import ROWS, run, set_chunk_rows, write_input
from tests.io.test_writers import OUTPUTS, read_table

GOOD = ["one", "two", "three", "four"]
BAD = """\
{"text": "one"}
not json
{"text": "two"}
{"text": "NAN"}
{"text": "three"}
{"text": ""}
{"text": "four"}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four good rows, three bad ones: unparsable, overflowing, empty."""
    path = tmp_path / "in.jsonl"
    path.write_text(BAD)
    return path


@pytest.fixture(params=[1, 2, 3, 1024])
def _chunk_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    set_chunk_rows(monkeypatch, request.param)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("_chunk_rows")
@pytest.mark.parametrize("output", OUTPUTS)
def test_skip_writes_good_rows_and_tells_of_each_bad_one(
    tmp_path: Path, source: Path, output: str
) -> None:
    path = tmp_path / f"out.{output}"
    extractor = run(source, path, on_error="skip")
    np.testing.assert_array_equal(read_table(path).values, extractor.table(GOOD).values)
    rejects = [json.loads(x) for x in Path(f"{path}.rejects.jsonl").read_text().splitlines()]
    assert [(r["row"], r["code"]) for r in rejects] == [
        (2, "invalid_json"),
        (4, "non_finite_features"),
        (6, "invalid_prompt"),
    ]
    assert rejects[0]["raw"] == "not json"
    assert rejects[1]["columns"] == {"text": "NAN"}
    assert {r["source"] for r in rejects} == {str(source)}


@pytest.mark.usefixtures("_chunk_rows")
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    ("first", "row", "code"), [(0, 2, "invalid_json"), (2, 2, "non_finite_features")]
)
def test_fail_stops_at_the_first_bad_row_and_skip_goes_on(
    tmp_path: Path, source: Path, output: str, first: int, row: int, code: str
) -> None:
    source.write_text("\n".join(BAD.split("\n")[first:]))
    path = tmp_path / f"out.{output}"
    with pytest.raises(RowError) as caught:
        run(source, path)
    assert (caught.value.row, caught.value.reason_code) == (row, code)
    assert str(caught.value).startswith(f"{source}: row {row}: ")
    assert not path.exists()
    run(source, path, on_error="skip", resume=True)
    run(source, tmp_path / f"plain.{output}", on_error="skip")
    for name in ("{}", "{}.rejects.jsonl"):
        resumed, plain = (tmp_path / name.format(f"{x}.{output}") for x in ("out", "plain"))
        assert resumed.read_bytes() == plain.read_bytes()
    assert not [name for name in names(tmp_path) if "partial" in name]


def test_fail_does_not_compute_what_comes_after(tmp_path: Path, source: Path) -> None:
    extractor = FakeExtractor()
    with pytest.raises(RowError):
        run(source, tmp_path / "out.csv", extractor)
    assert extractor.seen == ["one"]


def test_first_row_bad_leaves_nothing(tmp_path: Path, source: Path) -> None:
    source.write_text("not json\n")
    with pytest.raises(RowError):
        run(source, tmp_path / "out.csv")
    assert names(tmp_path) == {"in.jsonl"}


@pytest.mark.parametrize("output", OUTPUTS)
def test_interrupt_keeps_what_was_computed_and_the_old_output(
    tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 2)
    texts = [*GOOD, "STOP", "six"]
    source = write_input(tmp_path / "in.txt", [{"text": t} for t in texts])
    path = tmp_path / f"out.{output}"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        run(source, path, FakeExtractor(raises={"STOP": KeyboardInterrupt()}), force=True)
    assert path.read_text() == "old"
    extractor = run(source, path, resume=True, force=True)
    assert extractor.seen == ["STOP", "six"]
    np.testing.assert_array_equal(read_table(path).values, extractor.table(texts).values)
    assert not (tmp_path / f"out.{output}.partial").exists()


@pytest.mark.parametrize("output", ["csv", "jsonl"])
def test_full_disk_and_then_there_is_room(
    tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 2)
    source = write_input(tmp_path / "in.txt", [{"text": t} for t in GOOD])
    path = tmp_path / f"out.{output}"
    with closing(open_source(str(source))) as rows:
        sink = open_sink(str(path), str(source))
        fill_disk_after(sink, writes=1)
        with pytest.raises(OutputError, match=f"cannot write .*out.{output}: No space left"):
            annotate_rows(rows, sink, FeatureAnnotator(FakeExtractor()))
    assert sink.n_rows == 2
    extractor = run(source, path, resume=True)
    assert extractor.seen == []  # the columns were kept, and the rows could not be written
    np.testing.assert_array_equal(read_table(path).values, extractor.table(GOOD).values)


def fill_disk_after(sink: Any, writes: int) -> None:
    start = sink.start

    def start_and_sabotage(source: Any, added: Any) -> None:
        start(source, added)
        file = sink._writer._file
        sink._writer._file = _FullDisk(file, writes)

    sink.start = start_and_sabotage


class _FullDisk(io.RawIOBase):
    def __init__(self, file: Any, writes: int) -> None:
        self._real = file
        self._left = writes

    def write(self, data: Any) -> int:
        if not self._left:
            self._real.write(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        self._left -= 1
        return int(self._real.write(data))


@pytest.mark.parametrize("output", OUTPUTS)
def test_full_device_is_one_clear_error_and_no_output(tmp_path: Path, output: str) -> None:
    source = write_input(tmp_path / "in.jsonl", ROWS)
    path = tmp_path / f"out.{output}"
    (tmp_path / f"out.{output}.partial").mkdir()
    (tmp_path / f"out.{output}.partial" / "data").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=f"cannot write .*out.{output}: No space left on device"):
        run(source, path)
    assert not path.exists()
    run(source, path, resume=True)
    assert len(read_table(path)) == len(ROWS)


def test_output_that_cannot_be_written_fails_before_any_work(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.jsonl", ROWS)
    for name in ("out.csv", "out/"):
        with pytest.raises(OutputError, match=r"cannot write .*: (Not a directory|File exists)"):
            open_sink(f"{source}/none/{name}", str(source))


def test_success_replaces_the_rejects_of_an_earlier_one(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "out.csv"
    run(source, path, on_error="skip")
    assert "out.csv.rejects.jsonl" in names(tmp_path)
    run(write_input(tmp_path / "good.txt", [{"text": "x"}]), path, force=True)
    assert names(tmp_path) == {"in.jsonl", "good.txt", "out.csv", "out.csv.provenance.json"}
    assert len(FeatureTable.from_csv(path)) == 1


def test_output_through_a_link_goes_to_the_file_behind_it(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "store").mkdir()
    (tmp_path / "out.parquet").symlink_to(tmp_path / "store" / "real.parquet")
    run(source, tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet").is_symlink()
    assert len(FeatureTable.from_parquet(tmp_path / "store" / "real.parquet")) == len(ROWS)


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.rejects.jsonl", "link.jsonl"])
def test_input_is_never_overwritten(tmp_path: Path, name: str) -> None:
    source = write_input(tmp_path / "out.jsonl", ROWS)
    if name == "link.jsonl":
        (tmp_path / name).symlink_to(source)
    else:
        source = source.rename(tmp_path / name)
    before = source.read_bytes()
    with pytest.raises(ConfigurationError, match="would replace the input"):
        run(tmp_path / name, tmp_path / "out.jsonl")
    assert source.read_bytes() == before


def test_output_inside_the_input_folder(tmp_path: Path) -> None:
    write_input(tmp_path / "a.parquet", ROWS)
    with pytest.raises(ConfigurationError, match="lies in the input folder"):
        run(tmp_path, tmp_path / "out.parquet")


def test_file_that_changes_between_scan_and_reading(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in.jsonl", [{"text": "a", "n": 1}])
    with closing(open_source(str(source))) as rows:
        scan = rows.schema()
        for change in ({"text": "a", "new": 1}, {"text": "a", "n": "now text"}):
            write_input(source, [change])
            (chunk,) = rows.chunks()
            with pytest.raises(InputFileError, match="changed while it was being read"):
                chunk.to_arrow(scan)


def test_listener_hears_of_every_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_chunk_rows(monkeypatch, 3)
    source = write_input(tmp_path / "in.txt", [{"text": t} for t in GOOD])
    heard: list[tuple[int, int]] = []
    with closing(open_source(str(source))) as rows:
        sink = open_sink(str(tmp_path / "out.npz"), str(source))
        annotate_rows(
            rows,
            sink,
            FeatureAnnotator(FakeExtractor()),
            on_progress=lambda *counts: heard.append(counts),
        )
    assert [sum(column) for column in zip(*heard, strict=True)] == [4, 15]
