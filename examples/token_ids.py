"""Embeddings of token ids, as LangChain and others send them. Start first: splinellm serve.

LangChain's OpenAIEmbeddings tokenises with OpenAI's tokenizer unless told otherwise
(`check_embedding_ctx_length=False`): ids of another vocabulary mean other texts. Here the ids are
the model's own, from /v1/tokenize, cut into pieces that the service takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from openai import OpenAI


def main() -> None:
    """Embed a long text piece by piece."""
    url = os.environ.get("URL", "http://127.0.0.1:8000")
    client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("KEY", "none needed"))
    text = "The capital of France is Paris, and it has been so for a long time. " * 200
    row = client.post("/tokenize", body={"input": text}, cast_to=dict)["data"][0]
    pieces = list(split(row["ids"], 512))
    answer = client.embeddings.create(model="smollm2-135m", input=pieces)
    print(f"{row['n_tokens']} tokens in {len(answer.data)} pieces")
    print([len(item.embedding) for item in answer.data])


def split(ids: list[int], size: int) -> Iterator[list[int]]:
    """Cut token ids into pieces of at most `size`."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


if __name__ == "__main__":
    main()
