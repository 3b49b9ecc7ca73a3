"""``--resume``, as a user meets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from splinellm.cli import loading
from tests.cli.conftest import Result
from tests.fakes import FakeExtractor, LearnableExtractor
from tests.io.files import set_chunk_rows, write_input

Cli = Callable[..., Result]
RUN = ("extract", "in.csv", "-o", "out.parquet")


@pytest.fixture
def stopped(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A run that ended after two of four rows."""
    set_chunk_rows(monkeypatch, 2)
    write_input(Path("in.csv"), [{"id": i, "text": t} for i, t in enumerate(["a", "b", "c", "d"])])
    load = loading.load_extractor

    def load_failing(**settings: object) -> FakeExtractor:
        extractor = LearnableExtractor.from_pretrained(**settings)  # type: ignore[arg-type]
        extractor.raises = {"c": KeyboardInterrupt()}
        return extractor

    monkeypatch.setattr(loading, "load_extractor", load_failing)
    assert cli(*RUN, "--layers", "0").code == 130
    monkeypatch.setattr(loading, "load_extractor", load)
    return cli


def content() -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path().rglob("*") if p.is_file()}


def test_goes_on_and_says_how_much_was_there(stopped: Cli, fake: list[FakeExtractor]) -> None:
    result = stopped(*RUN, "--layers", "0", "--resume")
    assert result.code == 0
    assert result.stderr == "splinellm: 4 rows written, 2 of them computed before\n"
    assert fake[-1].seen == ["c", "d"]
    assert stopped("extract", "in.csv", "-o", "plain.parquet", "--layers", "0").code == 0
    assert Path("plain.parquet").read_bytes() == Path("out.parquet").read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == [
        "in.csv",
        "out.parquet",
        "plain.parquet",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layers", "0"), "holds 2 rows of a run for 'out.parquet' that did not end (--resume"),
        (("--layers", "0-1", "--resume"), "--layers was 0, now it is 0-1"),
        (("--resume",), "--layers was 0, now it is the default"),
        (("--layers", "0", "--resume", "--batch-tokens", "9"), "--batch-tokens was the default"),
        (("--layers", "0", "--resume", "--text-column", "id"), "--text-column was text, now it"),
        (("--layers", "0", "--resume", "--granularity", "token"), "--granularity was prompt, now"),
    ],
)
def test_refused_in_one_line_before_the_model_loads(
    stopped: Cli, fake: list[FakeExtractor], options: tuple[str, ...], message: str
) -> None:
    before, n_loaded = content(), len(fake)
    result = stopped(*RUN, *options)
    assert (result.code, result.stderr.count("\n")) == (1, 1)
    assert message in result.stderr
    assert (content(), len(fake)) == (before, n_loaded)


def test_standard_output_cannot_be_gone_on_with(cli: Cli) -> None:
    Path("in.txt").write_text("a\n")
    result = cli("extract", "in.txt", "-o", "-", "--resume")
    assert result.code == 2
    assert "standard output cannot be gone on with (name a file)" in result.stderr
