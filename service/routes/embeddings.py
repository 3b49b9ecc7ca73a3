"""``POST /v1/embeddings``: features as flat vectors, for OpenAI's clients."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter
from starlette.responses import Response

from service.descriptions import fingerprint
from service.errors import InvalidRequestError
from service.inputs import parse_openai_input
from service.json import StrictRoute
from service.reading import Reading
from service.routes.call import CallOf
from service.schemas.embeddings import EmbeddingsAnswer, EmbeddingsRequest
from service.schemas.errors import COMPUTING
from splinellm.table import FeatureTable

if TYPE_CHECKING:
    from service.served_model import ServedModel

router = APIRouter(route_class=StrictRoute, tags=["openai"])


@router.post(
    "/embeddings",
    summary="Features as vectors",
    response_class=Response,
    responses={200: {"model": EmbeddingsAnswer}, **COMPUTING},
)
async def embeddings(body: EmbeddingsRequest, call: CallOf) -> Response:
    """Compute features, layer by layer, in the format of OpenAI's embeddings."""
    model = call.catalog.get(body.model)
    plan = await call.plan(model, body.layers, body.features)
    length = len(plan.layers) * len(plan.selection.names)
    if body.dimensions not in (None, length):
        raise InvalidRequestError(
            f"dimensions is {body.dimensions}, but the vectors have {length} numbers",
            param="dimensions",
            hint="ask for fewer layers or features instead",
        )
    inputs = await call.in_pool(parse_openai_input, body.input, call.settings)
    reading = await call.read(inputs, model, plan, overflow=body.overflow)
    table = await call.features(model, plan, reading)
    in_base64 = body.encoding_format == "base64"
    return await call.answer(
        lambda: _answer(model, table, reading, in_base64=in_base64), n_rows=len(reading)
    )


def _answer(
    model: ServedModel, table: FeatureTable, reading: Reading, *, in_base64: bool
) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(row) if in_base64 else row,
            }
            for index, row in enumerate(table.values)
        ],
        "model": model.name,
        "usage": reading.usage,
        "truncated": reading.truncated,
        "layers": table.provenance.layers,
        "feature_names": table.provenance.features,
        "fingerprint": fingerprint(table.provenance),
    }


def _packed(row: np.ndarray) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")
