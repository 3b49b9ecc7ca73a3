"""``POST /v1/tokenize``: how a text is read, and whether it would be cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.responses import Response

from service.inputs import Inputs, parse_input
from service.json import StrictRoute
from service.reading import Reading
from service.routes.call import CallOf
from service.schemas.errors import COMPUTING
from service.schemas.tokenize import TokenizeAnswer, TokenizeRequest

if TYPE_CHECKING:
    from service.served_model import ServedModel

router = APIRouter(route_class=StrictRoute, tags=["features"])


@router.post(
    "/tokenize",
    summary="Token ids and their places in the text",
    response_class=Response,
    responses={200: {"model": TokenizeAnswer}, **COMPUTING},
)
async def tokenize(body: TokenizeRequest, call: CallOf) -> Response:
    """Tokenise as the other routes do; nothing is computed."""
    model = call.catalog.get(body.model)
    inputs = await call.in_pool(parse_input, body.input, call.settings)
    plan = model.plan()
    reading = await call.read(inputs, model, plan, overflow="window")
    limit = plan.max_tokens  # of the settings, or of the model's positions
    return await call.answer(lambda: _answer(model, inputs, reading, limit), n_rows=len(inputs))


def _answer(model: ServedModel, inputs: Inputs, reading: Reading, limit: int) -> dict[str, Any]:
    texts = [prompt for prompt in inputs.prompts if isinstance(prompt, str)]
    offsets = iter(model.offsets(texts) if texts else [])
    rows = zip(inputs.prompts, reading.windows, strict=True)
    return {
        "object": "list",
        "model": model.name,
        "max_input_tokens": limit,
        "data": [
            {
                "index": index,
                "n_tokens": len(window.ids),
                "truncated": len(window.ids) > limit,
                "ids": window.ids,
                "offsets": next(offsets) if isinstance(prompt, str) else None,
            }
            for index, (prompt, window) in enumerate(rows)
        ],
        "usage": reading.usage,
    }
