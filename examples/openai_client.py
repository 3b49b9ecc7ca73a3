"""The stock `openai` client against the service. Start that first: splinellm serve."""

from __future__ import annotations

import os

from openai import BadRequestError, OpenAI


def main() -> None:
    """Embed, moderate, and see what is loaded."""
    client = OpenAI(
        base_url=os.environ.get("URL", "http://127.0.0.1:8000") + "/v1",
        api_key=os.environ.get("KEY", "none needed"),
    )
    for model in client.models.list():
        print(model.id, model.model_extra)

    texts = ["The capital of France is Paris.", "def add(a, b): return a + b"]
    answer = client.embeddings.create(model="smollm2-135m", input=texts)
    print([len(row.embedding) for row in answer.data], answer.usage)

    # Fewer layers cost less. Fields that OpenAI does not have go into extra_body.
    blocks = client.embeddings.create(
        model="smollm2-135m", input=texts, extra_body={"layers": "0-4", "features": "blocks"}
    )
    print([len(row.embedding) for row in blocks.data])

    verdict = client.moderations.create(input="You are an idiot.").results[0]
    scores = verdict.category_scores.model_dump()
    print(verdict.flagged, {name: round(score, 2) for name, score in scores.items() if score})

    try:
        client.embeddings.create(model="smollm2-135m", input=["fine", ""])
    except BadRequestError as error:
        print(error.code, error.param)  # invalid_prompt input[1]


if __name__ == "__main__":
    main()
