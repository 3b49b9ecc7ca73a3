"""The notebooks in examples/ run from top to bottom, and come without outputs.

Cells are run here, one after the other, as a kernel would: a kernel is two dozen more packages to
install, and would test nothing of ours.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


def code_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"]) if cell["cell_type"] == "code" else ""


def show(value: Any) -> None:
    """What a notebook does with a cell's last value, as far as it is ours."""
    if hasattr(value, "to_plotly_json"):
        assert value.data
        assert "plotly-graph-div" in value.to_html(include_plotlyjs=False)
    elif hasattr(value, "_repr_html_"):
        assert value._repr_html_()
    else:
        repr(value)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_small_file_without_outputs(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    assert (record["nbformat"], record["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in record["cells"]}) == len(record["cells"])
    assert path.stat().st_size < 20_000
    for cell in record["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.model
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    pytest.importorskip("plotly", reason="the notebooks draw pictures")
    scope: dict[str, Any] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        tree = ast.parse(code_of(cell))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, path.name, "exec"), scope)
        if isinstance(last, ast.Expr):
            show(eval(compile(ast.Expression(last.value), path.name, "eval"), scope))
    if "drift" in scope:  # what the text of the notebook says
        assert scope["drift"]["more"] < 1 < scope["drift"]["loud"]


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["classifier", "features"]
