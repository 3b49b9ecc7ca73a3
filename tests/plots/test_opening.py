"""Pictures and inspections as pages, in a real browser: nothing is asked for, texts are text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from splinellm import plots
from splinellm.cli.pictures import write_picture
from splinellm.learn.inspection_page import page_of
from tests.fakes import FakeExtractor
from tests.opening import opened

TAKE = "document.title='taken';document.body.id='taken'"
HOSTILE = (
    f"</script><script>{TAKE}</script><img src=x onerror=\"{TAKE}\"> <a href='http://example.org'>"
    "\x00\x1b[31m\u202eevil\u202c שלום 🙂 " + "x" * 100_000
)


def draw_map(path: Path) -> None:
    table = FakeExtractor.from_pretrained().extract([f"{i} {HOSTILE}" for i in range(6)])
    texts = [f"{i} {HOSTILE}" for i in range(6)]
    figure = plots.map_picture(
        table, [HOSTILE] * 6, texts=texts, label_name=HOSTILE, title=HOSTILE, method="pca"
    )
    write_picture(figure, str(path))


def draw_tokens(path: Path) -> None:
    words = HOSTILE[:200]
    table = FakeExtractor.from_pretrained().extract([words], granularity="token")
    write_picture(plots.tokens_picture(table, title=HOSTILE), str(path))


def inspect(path: Path) -> None:
    found = FakeExtractor.from_pretrained().inspect(HOSTILE)
    path.write_text(page_of(found), encoding="utf-8")


@pytest.mark.parametrize("write", [draw_map, draw_tokens, inspect])
def test_nothing_is_asked_for_and_nothing_of_a_text_is_run(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    write(path)
    document, asked = opened(path, tmp_path)
    assert asked == []
    assert "<title>taken" not in document
    assert 'id="taken"' not in document
    assert "<img src" not in document
    assert "\u202e" not in document
    if write is not inspect:
        assert 'class="main-svg"' in document  # plotly drew it
        assert 'data-title="Download plot' in document
        assert 'data-title="Share' not in document  # a button that would send the figure away
        assert "<title>&lt;/script&gt;&lt;script&gt;" in document
