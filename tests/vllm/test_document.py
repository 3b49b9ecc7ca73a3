"""What docs/vllm.md shows runs, on the engine of the tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.live.models import extractor_of
from tests.tiny import random_prompts
from tests.vllm.models import load_tiny, made_up_classifier

vllm = pytest.importorskip("vllm", reason="vllm is not installed: make vllm")

DOCUMENT = Path(__file__).parents[2] / "docs" / "vllm.md"


def test_python_blocks_run(
    llm: Any, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up_classifier(extractor_of(load_tiny(tiny_folder), "blocks:24")).save(
        tmp_path / "my-classifier"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vllm, "LLM", lambda *_args, **_settings: llm)
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == 2
    names = {
        "prompts": [{"prompt_token_ids": it} for it in random_prompts(5, 9)],
        "params": vllm.SamplingParams(max_tokens=4),
        "llm": llm,
    }
    for block in blocks:
        fitted = block.replace('layers="0-5"', 'layers="0-2"')  # the tiny model has three
        exec(compile(fitted, "document", "exec"), dict(names))
