"""A plugin of vLLM's server: verdicts in its answers, and the features behind them.

vLLM finds it by its entry point and loads it where ``VLLM_PLUGINS`` names ``splinellm``.
"""

from __future__ import annotations

from typing import Any

from splinellm.errors import NothingRecordedError, SplineLLMError
from splinellm.vllm.answers import Verdicts
from splinellm.vllm.online import Online, error_body

PATH = "/v1/geometry/{answer_id:path}"


class GeometryPlugin:
    """What vLLM asks of an endpoint plugin.

    Attributes
    ----------
    name : str
        In ``VLLM_PLUGINS``.
    required_tasks : tuple of str
        Servers that generate.
    """

    name = "splinellm"
    required_tasks = ("generate",)

    def attach_router(self, app: Any) -> None:
        """Add the path and the middleware; both are behind vLLM's check of API keys."""
        from starlette.responses import JSONResponse

        async def geometry(answer_id: str, count: str = "all") -> Any:
            """Features of the requests behind an answer, by its id, for some minutes."""
            status, body = await answer_of(app.state.splinellm, answer_id, count)
            return JSONResponse(body, status)

        app.add_api_route(PATH, geometry, methods=["GET"], response_model=None)
        app.add_middleware(Verdicts)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Let the engine record; where it cannot, the server does not start.

        Raises
        ------
        SplineLLMError
            Says what is wrong and which flag to set.
        """
        del args
        state.splinellm = await Online.start(engine_client)


async def answer_of(online: Online, answer_id: str, count: str) -> tuple[int, dict[str, Any]]:
    """Status and body of an answer to ``GET /v1/geometry/{id}``.

    An id that is unknown or forgotten is 404, features that this request cannot have are 422 with
    the reason, and an unknown `count` is 400.
    """
    try:
        rows = await online.geometry(answer_id, count)
    except SplineLLMError as error:
        status = 400 if error.code == "invalid_configuration" else 422
        return status, {"error": error_body(error)}
    if not rows:
        unknown = NothingRecordedError(
            f"no answer '{answer_id[:80]}' is known",
            hint=f"features are kept for {online.wanted.keep_s} s, of the last "
            f"{online.wanted.keep} requests",
        )
        return 404, {"error": error_body(unknown)}
    provenance = online.provenance
    return 200, {
        "object": "geometry",
        "id": answer_id,
        "model": provenance.model,
        "layers": list(provenance.layers),
        "feature_names": list(provenance.features),
        "count": count,
        "data": rows,
    }
