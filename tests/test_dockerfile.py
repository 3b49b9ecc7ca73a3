"""The image works without a network: it holds what its default command reads."""

from __future__ import annotations

import json
import re
from pathlib import Path

from splinellm.backbone.builtin import BUILTIN_MODELS, DEFAULT_MODEL
from splinellm.learn.artifact import BOXED_FOLDER

DOCKERFILE = Path(__file__).parents[1] / "Dockerfile"


def test_models_of_the_boxed_classifiers_are_in_the_image() -> None:
    told = re.search(r'^ARG MODEL="(.*)"$', DOCKERFILE.read_text(), re.MULTILINE)
    assert told is not None
    pulled = set(told[1].split())
    cards = [json.loads(path.read_text()) for path in BOXED_FOLDER.glob("*/card.json")]
    assert cards
    assert pulled == {DEFAULT_MODEL, *(card["provenance"]["model"] for card in cards)}
    assert pulled <= set(BUILTIN_MODELS)
