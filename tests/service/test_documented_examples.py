"""What docs/service.md shows is what the service answers.

``python -m tests.service.test_documented_examples`` writes the answers anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "service.md"
ROUTE = re.compile(r"^### `POST (\S+)`\n(.*?)(?=^##|\Z)", re.M | re.S)
BLOCK = re.compile(r"```json\n(.*?)```", re.S)


def examples() -> list[tuple[str, Any, Any]]:
    """Route, request and answer; a request stands right before its answer."""
    found = []
    for path, section in ROUTE.findall(DOCUMENT.read_text(encoding="utf-8")):
        blocks = [json.loads(block) for block in BLOCK.findall(section)]
        for request, answer in pairwise(blocks):
            if {"input", "comment"} & request.keys() and not {"input", "comment"} & answer.keys():
                found.append((path, request, answer))
    return found


@pytest.fixture(scope="module")
def service() -> Iterator[TestClient]:
    """The service as it comes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPLINELLM_MODEL", raising=False)
        patch.delenv("SPLINELLM_CLASSIFIERS", raising=False)
        yield from started()


def started() -> Iterator[TestClient]:
    app = create_app(Settings())
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        yield client


def plain(value: Any) -> Any:
    """Everything but what a probability is: another training gives another one."""
    if isinstance(value, dict):
        kept = {key: plain(one) for key, one in value.items()}
        if "probabilities" in kept:
            kept["probabilities"] = sorted(kept["probabilities"])
        if kept.get("type") == "PROBABILITY":
            kept["value"] = "a probability"
        if isinstance(kept.get("thresholds"), dict):
            kept["thresholds"] = sorted(kept["thresholds"])
        return kept
    return [plain(one) for one in value] if isinstance(value, list) else value


def values_of(answer: Any) -> list[float]:
    rows = answer["data"] if isinstance(answer.get("data"), list) else []
    return [value for row in rows for layer in row.pop("values", []) for value in layer]


@pytest.mark.model
@pytest.mark.parametrize(("path", "request_body", "shown"), examples())
def test_the_service_answers_what_is_shown(
    service: TestClient, path: str, request_body: Any, shown: Any
) -> None:
    answer = service.post(path, json=request_body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert values_of(found) == pytest.approx(values_of(shown), abs=1.5e-3)
    assert plain(found) == plain(shown)


def test_there_are_examples() -> None:
    assert {path for path, _, _ in examples()} >= {
        "/v1/features",
        "/v1/classify",
        "/v1alpha1/comments:analyze",
    }


def shown(value: Any, name: str = "") -> Any:
    """Probabilities are shown as far as anybody reads them; so are keys that say nothing."""
    if isinstance(value, dict):
        return {key: shown(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [shown(one, name) for one in value]
    return round(value, 3) if isinstance(value, float) and name != "values" else value


def write(client: TestClient) -> None:
    """Put what the service answers now into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for path, request, old in examples():
        answer = shown(client.post(path, json=request).json())
        lines = json.dumps(answer, ensure_ascii=False)
        for name in (
            "data",
            "usage",
            "attributeScores",
            "languages",
            "feature_names",
            "summaryScore",
        ):
            lines = lines.replace(f', "{name}":', f',\n "{name}":')
        lines = lines.replace('}, {"index"', '},\n          {"index"')
        for block in BLOCK.findall(text):
            if json.loads(block) == old:
                text = text.replace(block, lines + "\n", 1)
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for running in started():
        write(running)
