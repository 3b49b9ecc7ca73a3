"""What the documents show must run, and what they name must exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from splinellm.backbone.builtin import BUILTIN_MODELS
from splinellm.classifiers.build import BUILDERS
from splinellm.cli import run
from splinellm.errors import SplineLLMError
from splinellm.learn.artifact import boxed_names, load_classifier

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    if path.name != "vllm.md"  # tests/vllm runs those, in an environment of their own
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
]
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for path in DOCUMENTS
        for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("splinellm ")
    }
)


@pytest.mark.model
@pytest.mark.parametrize("block", PYTHON)
def test_python_blocks_run(block: str) -> None:
    exec(compile(block, "document", "exec"), {})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_the_options_that_are_shown(
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # inputs are not there: parsing must be all that succeeds
    if command in ("splinellm models", "splinellm classifiers toxicity"):
        assert run(shlex.split(command)[1:]) == 0
        return
    assert run(shlex.split(command)[1:]) == 1
    assert re.search("does not exist|there is no classifier|No such file", capsys.readouterr().err)


def test_every_error_code_is_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/errors.md").read_text(), re.M))
    in_library = {kind.code for kind in _kinds() if kind.__module__ == "splinellm.errors"}
    assert documented == in_library - {"error"}


def _kinds() -> list[type[SplineLLMError]]:
    found, queue = [], [SplineLLMError]
    while queue:
        kind = queue.pop()
        found.append(kind)
        queue.extend(kind.__subclasses__())
    return found


def test_the_boxed_classifiers_load_and_are_of_built_in_models() -> None:
    assert boxed_names() == sorted(BUILDERS)
    for name in boxed_names():
        card = load_classifier(name).card
        assert card.name == name
        assert card.provenance.model in BUILTIN_MODELS
        assert card.metrics
        assert card.weaknesses
