"""LangChain's and LiteLLM's clients against a live server; skipped where they are not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.app import create_app
from service.settings import Settings
from splinellm.schema import PAPER_FEATURES
from tests.service.fakes import N_LAYERS, fake_catalog, fake_values, token_of
from tests.service.live import serving

ROOT = Path(__file__).parents[2]
LANGCHAIN = """
import json, sys
from langchain_openai import OpenAIEmbeddings
client = OpenAIEmbeddings(
    model="fake", base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0,
    check_embedding_ctx_length=False,
)
print(json.dumps([client.embed_documents(["one two", "three"]), client.embed_query("four")]))
"""
LANGCHAIN_IDS = """
import sys
from langchain_openai import OpenAIEmbeddings
client = OpenAIEmbeddings(
    model="fake", base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0,
    tiktoken_enabled=True,
)
try:
    answer = client.client.create(input=[[5, 6, 7]], model="fake")
except Exception as error:
    print(error)
"""
LITELLM = """
import json, sys
import litellm
told = {"api_base": sys.argv[1] + "/v1", "api_key": "none"}
vectors = litellm.embedding(model="openai/fake", input=["one two", "three"], **told)
verdict = litellm.moderation(input="a toxic text", model="toxicity", **told)
print(json.dumps({
    "vectors": [row["embedding"] for row in vectors.data],
    "flagged": verdict.results[0].flagged,
}))
"""


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


def run(program: str, **settings: Any) -> str:
    """What a client of the service prints: in a process of its own, for its imports warn."""
    catalog = fake_catalog()
    app = create_app(Settings(**settings), load=lambda *_: catalog)
    with serving(app) as url:
        done = subprocess.run(
            [sys.executable, "-c", program, url],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"},
        )
    assert catalog.stop(30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def vector(words: str) -> np.ndarray:
    ids = [token_of(word) for word in words.split()]
    return fake_values(ids, range(N_LAYERS), PAPER_FEATURES, 32)


@needs("langchain_openai")
@pytest.mark.parametrize("token_ids", ["accept", "refuse"])
def test_langchain_embeds_texts(token_ids: str) -> None:
    documents, query = json.loads(run(LANGCHAIN, token_ids=token_ids))
    np.testing.assert_array_equal(np.float32(documents[0]), vector("one two"))
    np.testing.assert_array_equal(np.float32(documents[1]), vector("three"))
    np.testing.assert_array_equal(np.float32(query), vector("four"))


@needs("langchain_openai")
def test_langchains_ids_of_another_tokenizer_can_be_refused() -> None:
    printed = run(LANGCHAIN_IDS, token_ids="refuse")
    assert "check_embedding_ctx_length=False" in printed
    assert run(LANGCHAIN_IDS) == ""


@needs("litellm")
def test_litellm_embeds_and_moderates() -> None:
    found = json.loads(run(LITELLM).splitlines()[-1])
    np.testing.assert_array_equal(np.float32(found["vectors"][0]), vector("one two"))
    np.testing.assert_array_equal(np.float32(found["vectors"][1]), vector("three"))
    assert found["flagged"] is True
