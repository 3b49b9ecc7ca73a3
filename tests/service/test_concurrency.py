"""Fifty requests of all kinds at once, one of them poisoned: everybody gets what is theirs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.testclient import TestClient

N = 50
POISONED = 17
WORDS = ("insult", "threat", "law", "calm", "toxic", "code", "hate")


def request(position: int) -> tuple[str, dict[str, Any]]:
    """A request of its own route, plan, text and length."""
    text = " ".join([WORDS[position % len(WORDS)], *(f"w{position}" for _ in range(position % 9))])
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("/v1/features", {"input": [text, f"{text} more"]}),
        ("/v1/features", {"input": text, "layers": "0-1", "features": "blocks"}),
        ("/v1/embeddings", {"input": [text], "layers": position % 6}),
        ("/v1/classify", {"input": [text] * 2, "classifier": "domain"}),
        ("/v1/classify", {"input": f"{text} " * 80}),
        ("/v1/moderations", {"input": text}),
        (
            "/v1alpha1/comments:analyze",
            {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}, "INSULT": {}}},
        ),
    ]
    return kinds[position % len(kinds)]


def ask(client: TestClient, position: int) -> tuple[int, Any]:
    path, body = request(position)
    if position == POISONED:
        path, body = "/v1/features", {"input": ["fine", "POISON"]}
    answer = client.post(path, json=body)
    content = answer.json()
    content.pop("id", None)  # a moderation's is new each time
    return answer.status_code, content


def test_everybody_gets_their_own(client: TestClient) -> None:
    alone = [ask(client, position) for position in range(N)]
    with ThreadPoolExecutor(N) as pool:
        together = list(pool.map(lambda position: ask(client, position), range(N)))
    for position, (before, now) in enumerate(zip(alone, together, strict=True)):
        if position == POISONED:
            assert now[0] == before[0] == 500
            assert now[1]["error"]["param"] == "input[1]"
        else:
            assert now[0] == 200
            assert now == before
    answers = [str(content) for status, content in alone if status == 200]
    assert len(set(answers)) == N - 1  # else a swapped answer would not show
