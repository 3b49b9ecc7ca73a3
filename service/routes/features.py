"""``POST /v1/features``: the numbers themselves, as JSON or as an Arrow stream."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.descriptions import fingerprint
from service.errors import BatchTooLargeError
from service.inputs import parse_input
from service.json import StrictRoute
from service.reading import Reading
from service.routes.call import CallOf
from service.schemas.errors import COMPUTING
from service.schemas.features import (
    MAX_TOKEN_NUMBERS,
    MAX_TOKEN_ROWS,
    FeaturesAnswer,
    FeaturesRequest,
)
from splinellm.plan import Plan
from splinellm.table import FeatureTable
from splinellm.token_index import NOWHERE, TokenIndex

if TYPE_CHECKING:
    from service.served_model import ServedModel

ARROW = "application/vnd.apache.arrow.stream"

router = APIRouter(route_class=StrictRoute, tags=["features"])


@router.post(
    "/features",
    summary="Features of prompts, prefixes or tokens",
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
    model = call.catalog.get(body.model)
    plan = await call.plan(model, body.layers, body.features, body.granularity, body.count)
    inputs = await call.in_pool(parse_input, body.input, call.settings)
    reading = await call.read(inputs, model, plan, overflow=body.overflow)
    require_few_rows(plan, reading)
    table = await call.features(model, plan, reading, inputs.prompts)
    if ARROW in request.headers.get("accept", ""):
        return Response(await call.in_pool(arrow_stream, table), media_type=ARROW)
    return await call.answer(lambda: _answer(model, table, reading), n_rows=len(table))


def require_few_rows(plan: Plan, reading: Reading) -> None:
    """Refuse an answer that would be too large, before any of it is computed.

    Raises
    ------
    BatchTooLargeError
        Names the limit. There is none for rows that stand for prompts: their inputs are counted.
    """
    if plan.granularity == "prompt":
        return
    n_rows = sum(reading.n_tokens)
    if n_rows > MAX_TOKEN_ROWS:
        raise BatchTooLargeError(
            f"{n_rows} tokens in one request, but the limit is {MAX_TOKEN_ROWS} "
            f"where every {plan.granularity} has a row",
            param="input",
        )
    n_numbers = n_rows * len(plan.layers) * len(plan.selection.at(plan.granularity).names)
    if n_numbers > MAX_TOKEN_NUMBERS:
        raise BatchTooLargeError(
            f"{n_numbers} numbers in one answer, but the limit is {MAX_TOKEN_NUMBERS}",
            param="input",
            hint="ask for fewer layers or features",
        )


def arrow_stream(table: FeatureTable) -> bytes:
    """Write a table as an Arrow IPC stream, provenance in its metadata."""
    columns = table.to_arrow()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns.schema) as writer:
        writer.write_table(columns)
    return bytes(sink.getvalue().to_pybytes())


def _answer(model: ServedModel, table: FeatureTable, reading: Reading) -> dict[str, Any]:
    facts = zip(
        range(len(table)) if table.tokens is None else table.tokens.row.tolist(),
        [{}] * len(table) if table.tokens is None else _places(table.tokens),
        table.n_tokens.tolist(),
        table.truncated.tolist(),
        table.array,
        strict=True,
    )
    return {
        "object": "list",
        "model": model.name,
        "layers": table.provenance.layers,
        "feature_names": table.provenance.features,
        "fingerprint": fingerprint(table.provenance),
        "data": [
            {
                "index": index,
                **place,
                "n_tokens": n_tokens,
                "truncated": truncated,
                "values": values,
            }
            for index, place, n_tokens, truncated, values in facts
        ],
        "usage": reading.usage,
    }


def _places(tokens: TokenIndex) -> Iterator[dict[str, Any]]:
    """Where each row is in its input."""
    columns = (tokens.position.tolist(), tokens.token, tokens.begin.tolist(), tokens.end.tolist())
    speakers = _speakers(tokens)
    for position, token, begin, end in zip(*columns, strict=True):
        yield {
            "position": position,
            "token": token,
            "begin": None if begin == NOWHERE else begin,
            "end": None if end == NOWHERE else end,
            **next(speakers),
        }


def _speakers(tokens: TokenIndex) -> Iterator[dict[str, Any]]:
    """Who says each token, where inputs are conversations."""
    if tokens.role is None or tokens.message is None:
        yield from repeat({})
        return
    for role, message in zip(tokens.role, tokens.message.tolist(), strict=True):
        yield {"role": role, "message": None if message == NOWHERE else message}
