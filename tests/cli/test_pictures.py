"""``plot``, ``compare`` and ``inspect``."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from splinellm.shown import width
from tests.cli.conftest import Result

Cli = Callable[..., Result]
HOSTILE = "</script><script>alert(1)</script> \u202eevil\u202c \x1b[31m\x07 <b>שלום</b> 🙂 \x00 end"


@pytest.fixture
def table(cli: Cli) -> str:
    rows = [{"text": f"text {i} {HOSTILE}", "label": HOSTILE if i % 2 else "b"} for i in range(20)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("extract", "in.jsonl", "-o", "t.parquet", "--quiet").code == 0
    return "t.parquet"


@pytest.mark.parametrize(
    "options",
    [
        ["--kind", "layers", "--color", "label"],
        ["--kind", "effects", "--color", "label", "--theme", "dark"],
        ["--kind", "map", "--color", "label", "--method", "pca"],
        ["--kind", "map", "--color", "n_tokens"],
    ],
)
def test_a_page_needs_no_network_and_runs_nothing_of_the_rows(
    cli: Cli, table: str, options: list[str]
) -> None:
    result = cli("plot", table, "-o", "p.html", *options)
    assert (result.code, result.stdout) == (0, b""), result.stderr
    page = Path("p.html").read_text()
    assert "alert(1)</script>" not in page
    assert "\u202e" not in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)


@pytest.mark.parametrize("kind", ["tokens", "dimension", "prefix"])
def test_pictures_of_tokens(cli: Cli, kind: str) -> None:
    Path("in.txt").write_text("one two three\nfour five\n")
    granularity = "prefix" if kind == "prefix" else "token"
    assert cli("extract", "in.txt", "-o", "t.csv", "--granularity", granularity).code == 0
    assert cli("plot", "t.csv", "-o", "p.html", "--kind", kind).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "p.gif", "--kind", "layers"], 2, "none of .html, .png, .svg"),
        (["-o", "p.html", "--kind", "effects"], 2, "--color"),
        (
            ["-o", "p.html", "--kind", "effects", "--color", "label", "--between", "b"],
            2,
            "--between takes two values, A,B, not 'b'",
        ),
        (["-o", "p.html", "--kind", "tokens", "--features", "a,b"], 2, "one feature, not 'a,b'"),
        (["-o", "p.html", "--kind", "tokens"], 1, "--granularity token"),
        (["-o", "p.html", "--kind", "layers", "--color", "x"], 1, "no column 'x'"),
        (["-o", "no/p.html", "--kind", "layers"], 1, "cannot write"),
        (["-o", "p.html", "--kind", "layers", "--layers", "3000"], 1, "does not exist"),
    ],
)
def test_errors(cli: Cli, table: str, arguments: list[str], code: int, message: str) -> None:
    result = cli("plot", table, *arguments)
    assert result.code == code
    assert message in result.stderr
    assert not Path("p.html").exists()


def test_what_is_no_table_is_refused(cli: Cli) -> None:
    Path("x.parquet").write_text("text\nno table\n")
    Path("x.csv").write_text("text\nno table\n")
    for name in ("x.parquet", "x.csv", "missing.parquet", "missing.csv"):
        plot = cli("plot", name, "-o", "p.html", "--kind", "map")
        for result in (cli("compare", name, name), plot):
            assert result.code == 1, name
            assert name.partition(".")[0] in result.stderr


def test_without_plotly_it_is_said_what_to_install(
    cli: Cli, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("splinellm.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("splinellm.plots", raising=False)
    monkeypatch.setitem(sys.modules, "plotly", None)
    result = cli("plot", table, "-o", "p.html", "--kind", "layers")
    assert result.code == 1
    assert "splinellm[plots]" in result.stderr


def test_an_image_without_a_drawer_says_what_to_install(
    cli: Cli, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    result = cli("plot", table, "-o", "p.png", "--kind", "layers")
    assert result.code == 1
    assert "Chromium" in result.stderr


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium draws it")
def test_a_picture_for_a_paper(cli: Cli, table: str) -> None:
    pytest.importorskip("kaleido")
    result = cli("plot", table, "-o", "p.pdf", "--kind", "layers", "--color", "label")
    assert result.code == 0, result.stderr
    assert Path("p.pdf").read_bytes().startswith(b"%PDF-")


def test_compare_prints_its_test_and_the_largest_effects(cli: Cli, table: str) -> None:
    result = cli("compare", table, table, "--largest", "3", "--html", "c.html")
    assert result.code == 0, result.stderr
    lines = result.stdout.decode().splitlines()
    assert "20 and 20 rows" in lines[0]
    assert len(lines) == 2 + 1 + 3
    assert "alert" not in Path("c.html").read_text()[-200_000:]
    record = json.loads(cli("compare", table, table, "--json").stdout)
    assert record["rows"] == [20, 20]
    assert all(one["size"] == 0 for one in record["effects"])


def test_texts_are_to_be_extracted_before_they_are_compared(cli: Cli, table: str) -> None:
    Path("raw.csv").write_text("text,label\na b,x\nc d,y\n")
    result = cli("compare", table, "raw.csv")
    assert result.code == 1
    assert "run splinellm extract on it first" in result.stderr


CHAT = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "hi"}]


def test_inspect_as_lines_json_and_page(cli: Cli) -> None:
    text = f"a text {HOSTILE}"
    result = cli("inspect", "-", "--classifier", "none", stdin=text.encode())
    assert result.code == 0, result.stderr
    told = result.stdout.decode()
    assert all(width(line) <= 80 for line in told.splitlines())
    assert "sign_mean" in told
    assert "dimension by context" in told
    assert not set(told) & {"\x00", "\x1b", "\x07", "\u202e"}
    Path("in.txt").write_text(text)
    record = json.loads(cli("inspect", "in.txt", "--json", "--classifier", "none").stdout)
    assert record["object"] == "inspection"
    assert len(record["values"]) == len(record["layers"])
    assert len(record["tokens"]) == record["n_tokens"]
    page = cli("inspect", "in.txt", "--html", "p.html", "--classifier", "none")
    assert (page.code, page.stdout) == (0, b"")
    html = Path("p.html").read_text()
    assert "<script>alert" not in html
    assert "default-src 'none'" in html
    assert "\u202e" not in html


def test_inspect_shows_the_words_of_a_verdict() -> None:
    from splinellm.cli.inspection_text import lines_of
    from splinellm.extraction.inspection import InspectedVerdict
    from splinellm.learn.inspection_page import page_of
    from tests.fakes import FakeExtractor

    class Judge:
        def inspect(self, prompt: object) -> list[InspectedVerdict]:
            span = {"begin": 4, "end": 9, "label": "bad", "score": 0.9}
            return [
                InspectedVerdict("c", ("bad",), {"good": 0.1, "bad": 0.9}, {"bad": 0.5}, (span,))
            ]

    found = FakeExtractor.from_pretrained().inspect("you <fool> there", [Judge()])
    assert found.verdicts[0].labels == ("bad",)
    lines = list(lines_of(found))
    assert "    you [<fool]> there" in lines
    assert any("threshold 0.500" in line for line in lines)
    assert "you \x1b[1;31m<fool\x1b[0m> there" in "\n".join(lines_of(found, in_colour=True))
    assert '<mark title="bad 0.90">&lt;fool</mark>' in page_of(found)
    assert found.to_dict()["verdicts"][0]["spans"][0]["end"] == 9


def test_inspect_leaves_out_what_tells_nothing() -> None:
    from splinellm.cli.inspection_text import lines_of
    from splinellm.extraction.inspection import InspectedVerdict
    from splinellm.learn.inspection_page import page_of
    from tests.fakes import FakeExtractor

    text = "so kind of you"
    whole = {"begin": 0, "end": len(text), "label": "a", "score": 0.9}
    chances = {"a": 0.9, "b": 0.09, "c": 0.006, "d": 0.004, "rare": 0.0}

    class Judge:
        def inspect(self, prompt: object) -> list[InspectedVerdict]:
            return [InspectedVerdict("c", ("a",), chances, {"rare": 0.5}, (whole,))]

    found = FakeExtractor.from_pretrained().inspect(text, [Judge()])
    lines = list(lines_of(found))
    assert "  and 1 less probable" in lines
    assert [line.split()[0] for line in lines[3:7]] == ["a", "b", "c", "rare"]
    assert not any("[" in line for line in lines[:9])  # a mark around everything is none
    page = page_of(found)
    assert "<summary>1 less probable</summary>d 0.004" in page
    assert "<mark" not in page


def test_what_is_known_of_a_prompt_is_a_page_in_a_notebook() -> None:
    from splinellm.cli.inspection_text import lines_of
    from tests.fakes import FakeExtractor

    found = FakeExtractor.from_pretrained().inspect(HOSTILE)
    frame = found._repr_html_()
    assert frame.count("<") == 2  # a frame and its end; the page is its attribute
    assert 'sandbox="allow-scripts"' in frame  # and may not reach the notebook
    page = unescape(frame)
    assert "Intrinsic dimension by context length" in page
    tokens = replace(found.tokens, provenance=replace(found.tokens.provenance, architecture="bert"))
    both_ways = replace(found, tokens=tokens)  # of an encoder
    assert "Intrinsic dimension by position of the token" in unescape(both_ways._repr_html_())
    assert "dimension by position" in "\n".join(lines_of(both_ways))


def test_the_dimension_of_contexts_is_told_from_least_to_most() -> None:
    from splinellm.cli.inspection_text import lines_of
    from tests.fakes import FakeExtractor

    found = FakeExtractor.from_pretrained().inspect("a b c d e f g h", [])
    at = found.tokens.schema.features.index("intrinsic_dimension")
    values = found.tokens.array[:, 0, at].copy()
    values[:3] = 4, 90, 2
    values[-1] = 50
    found.tokens.array[:, 0, at] = values
    told = list(lines_of(found))
    curve = told[1 + next(i for i, line in enumerate(told) if "dimension by context" in line)]
    assert curve.endswith(f"{int(values.min())} to 90")


@pytest.mark.parametrize("n_layers", [4, 7])
def test_layers_that_are_left_out_of_an_inspection_are_told(n_layers: int) -> None:
    from splinellm.cli.inspection_text import lines_of
    from splinellm.learn.inspection_page import page_of
    from tests.fakes import FakeExtractor, fake_provenance

    source = fake_provenance(n_layers=n_layers, layers=tuple(range(n_layers)))
    found = FakeExtractor(source).inspect("a b c", [])
    shown = [line.split()[1] for line in lines_of(found) if line.startswith("layer ")]
    page = page_of(found)
    told = "first, middle and last layer"
    assert shown == (["0", "1", "2", "3"] if n_layers == 4 else ["0", "3", "6"])
    assert any(told in line for line in lines_of(found)) == (n_layers == 7)
    assert (told in page) == (n_layers == 7)


def test_inspect_refuses_what_it_cannot_read(cli: Cli) -> None:
    assert cli("inspect", "", "--classifier", "none").code == 1
    Path("in.txt").write_bytes(b"\xff\xfe\xfd")
    result = cli("inspect", "in.txt", "--classifier", "none")
    assert result.code == 1
    assert "not UTF-8" in result.stderr
    assert cli("inspect", "x", "--html", "p.pdf").code == 2
