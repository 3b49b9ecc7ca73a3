"""The stock `openai` client against a live server."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

import httpx2
import numpy as np
import openai
import pytest
from openai import OpenAI
from pydantic import SecretStr

from service.app import create_app
from service.models import ModelCatalog
from service.settings import Settings
from splinellm.schema import PAPER_FEATURES
from tests.service.fakes import N_LAYERS, fake_catalog, fake_values, token_of
from tests.service.live import serving

KEY = "a key"


@pytest.fixture(scope="module")
def catalog() -> Iterator[ModelCatalog]:
    catalog = fake_catalog(name="org/fake")
    yield catalog
    assert catalog.stop(30)


@pytest.fixture(scope="module")
def url(catalog: ModelCatalog) -> Iterator[str]:
    settings = Settings(api_keys={"tests": SecretStr(KEY)})
    with serving(create_app(settings, load=lambda *_: catalog)) as url:
        yield url


@pytest.fixture(params=["/v1", ""])
def client(url: str, request: pytest.FixtureRequest) -> Iterator[OpenAI]:
    with OpenAI(base_url=url + request.param, api_key=KEY, max_retries=0) as client:
        yield client


def vector(words: str) -> list[float]:
    ids = [token_of(word) for word in words.split()]
    values: list[float] = fake_values(ids, range(N_LAYERS), PAPER_FEATURES, 32).tolist()
    return values


def test_embeddings_as_the_client_asks_for_them(client: OpenAI) -> None:
    """By itself it asks for base64 and unpacks it."""
    answer = client.embeddings.create(model="org/fake", input=["one two", "three"])
    assert [row.embedding for row in answer.data] == [vector("one two"), vector("three")]
    assert [row.index for row in answer.data] == [0, 1]
    assert (answer.model, answer.usage.prompt_tokens) == ("org/fake", 3)
    assert answer.model_extra is not None
    assert answer.model_extra["truncated"] == [False, False]


def test_embeddings_in_both_encodings(client: OpenAI) -> None:
    as_numbers = client.embeddings.create(model="org/fake", input="one", encoding_format="float")
    # Written with as many digits as tell float32 numbers apart.
    assert np.array(as_numbers.data[0].embedding, np.float32).tolist() == vector("one")
    packed = client.embeddings.create(model="org/fake", input="one", encoding_format="base64")
    text = packed.data[0].embedding
    assert isinstance(text, str)  # asked for, it stays packed
    assert np.frombuffer(base64.b64decode(text), "<f4").tolist() == vector("one")


def test_token_ids(client: OpenAI) -> None:
    one, two = token_of("one"), token_of("two")
    batch = client.embeddings.create(model="org/fake", input=[[one, two], [two]])
    assert [row.embedding for row in batch.data] == [vector("one two"), vector("two")]
    single = client.embeddings.create(model="org/fake", input=[one, two])
    assert [row.embedding for row in single.data] == [vector("one two")]


def test_fields_of_our_own(client: OpenAI) -> None:
    answer = client.embeddings.create(
        model="org/fake", input="one", extra_body={"layers": "1", "features": "sign_mean"}
    )
    position = len(PAPER_FEATURES)
    assert answer.data[0].embedding == vector("one")[position : position + 1]


def test_moderations(client: OpenAI) -> None:
    answer = client.moderations.create(input=["an insult", "calm"])
    harmful, calm = answer.results
    assert (harmful.flagged, calm.flagged) == (True, False)
    assert (harmful.categories.harassment, calm.categories.harassment) == (True, False)
    assert harmful.category_scores.harassment > 0.5 > calm.category_scores.harassment
    assert harmful.category_applied_input_types.harassment == ["text"]
    assert harmful.category_applied_input_types.sexual == []
    assert harmful.categories.model_extra is not None
    assert harmful.categories.model_extra["insult"] is True


def test_moderations_of_one_text_and_of_content_parts(client: OpenAI) -> None:
    (text,) = client.moderations.create(input="calm\nan insult").results
    (parts,) = client.moderations.create(
        model="omni-moderation-latest",
        input=[{"type": "text", "text": "calm"}, {"type": "text", "text": "an insult"}],
    ).results
    assert parts == text
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    with pytest.raises(openai.BadRequestError) as raised:
        client.moderations.create(input=[image])  # type: ignore[list-item]
    assert raised.value.param == "input"


def test_models(client: OpenAI) -> None:
    (model,) = client.models.list()
    assert model.id == "org/fake"
    assert client.models.retrieve("org/fake") == model
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("org/other")
    assert raised.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("kind", "code", "param", "ask"),
    [
        (
            openai.BadRequestError,
            "invalid_prompt",
            "input[1]",
            lambda client: client.embeddings.create(model="org/fake", input=["x", ""]),
        ),
        (
            openai.NotFoundError,
            "model_not_found",
            "model",
            lambda client: client.embeddings.create(model="gpt", input="x"),
        ),
        (
            openai.AuthenticationError,
            "invalid_api_key",
            None,
            lambda client: client.with_options(api_key="wrong").models.list(),
        ),
        (
            openai.UnprocessableEntityError,
            "non_finite_features",
            "input",
            lambda client: client.embeddings.create(model="org/fake", input="NAN"),
        ),
        (
            openai.InternalServerError,
            "inference_failed",
            "input",
            lambda client: client.embeddings.create(model="org/fake", input="POISON"),
        ),
    ],
)
def test_errors_become_the_clients_own(
    client: OpenAI,
    kind: type[openai.APIStatusError],
    code: str,
    param: str | None,
    ask: Callable[[OpenAI], object],
) -> None:
    with pytest.raises(kind) as raised:
        ask(client)
    assert (raised.value.code, raised.value.param) == (code, param)
    assert raised.value.request_id
    assert "POISON" not in str(raised.value)


def test_what_will_fail_again_is_asked_once(url: str) -> None:
    n_asked = 0

    def count(_request: httpx2.Request) -> None:
        nonlocal n_asked
        n_asked += 1

    with (
        httpx2.Client(event_hooks={"request": [count]}) as transport,
        OpenAI(base_url=f"{url}/v1", api_key=KEY, http_client=transport) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.embeddings.create(model="org/fake", input="POISON")
    assert n_asked == 1
