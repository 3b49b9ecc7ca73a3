"""``POST /v1/features``: the numbers themselves, as JSON or as an Arrow stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequestError
from service.facts import fingerprint
from service.inputs import Reading, parse_input
from service.json import StrictRoute
from service.routes.call import CallOf
from service.schemas.errors import COMPUTING
from service.schemas.features import FeaturesAnswer, FeaturesRequest
from splinellm.table import FeatureTable

if TYPE_CHECKING:
    from service.models import ServedModel

ARROW = "application/vnd.apache.arrow.stream"

router = APIRouter(route_class=StrictRoute, tags=["features"])


class UnsupportedGranularityError(InvalidRequestError):
    """Rows of this kind cannot be computed yet."""

    code = "unsupported_granularity"


@router.post(
    "/features",
    summary="Features of prompts",
    response_class=Response,
    responses={
        200: {
            "model": FeaturesAnswer,
            "description": f"With `Accept: {ARROW}` the same rows as an Arrow IPC stream.",
            "content": {ARROW: {"schema": {"type": "string", "format": "binary"}}},
        },
        **COMPUTING,
    },
)
async def features(request: Request, body: FeaturesRequest, call: CallOf) -> Response:
    """Compute the intrinsic dimension and the spline features of every layer."""
    require_prompt_granularity(body.granularity)
    model = call.catalog.get(body.model)
    plan = await call.plan(model, body.layers, body.features)
    inputs = await call.in_pool(parse_input, body.input, call.settings)
    reading = await call.read(inputs, model, plan, overflow=body.overflow)
    table = await call.features(model, plan, reading)
    if ARROW in request.headers.get("accept", ""):
        stream = await call.in_pool(arrow_stream, table, reading)
        return Response(stream, media_type=ARROW)
    return await call.answer(lambda: _answer(model, table, reading), n_rows=len(reading))


def require_prompt_granularity(granularity: str) -> None:
    """Refuse rows that stand for a prefix or a token: these are still to come."""
    if granularity != "prompt":
        raise UnsupportedGranularityError(
            f"granularity '{granularity}' cannot be computed yet; 'prompt' can",
            param="granularity",
        )


def arrow_stream(table: FeatureTable, reading: Reading) -> bytes:
    """Write a table as an Arrow IPC stream, provenance in its metadata."""
    columns = table.to_arrow()
    # The engine sees tokens that are already cut: only the reading knows.
    position = columns.schema.get_field_index("truncated")
    columns = columns.set_column(
        position, columns.schema.field(position), pa.array(reading.truncated, pa.bool_())
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns.schema) as writer:
        writer.write_table(columns)
    return bytes(sink.getvalue().to_pybytes())


def _answer(model: ServedModel, table: FeatureTable, reading: Reading) -> dict[str, Any]:
    facts = zip(table.array, reading.n_tokens, reading.truncated, strict=True)
    return {
        "object": "list",
        "model": model.name,
        "layers": table.provenance.layers,
        "feature_names": table.provenance.features,
        "fingerprint": fingerprint(table.provenance),
        "data": [
            {"index": index, "n_tokens": n_tokens, "truncated": truncated, "values": values}
            for index, (values, n_tokens, truncated) in enumerate(facts)
        ],
        "usage": reading.usage,
    }
