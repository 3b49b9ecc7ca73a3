"""The service as a deployment of Ray Serve: ``serve run service.ray_app:app``.

Each replica makes the service of :func:`service.app.create_app` and loads its models once. Ray is
imported when ``app`` is asked for, not with this module.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from service.app import create_app
from service.routes.health import require_ready
from service.settings import Settings, load_settings
from splinellm.errors import ConfigurationError
from splinellm.ray.cluster import import_ray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

NAME = "splinellm"
DEPLOYED_BY = "deployed_by"
LOAD_FAILED = "splinellm cannot load: "
"""What the reason begins with in Ray's report of replicas that do not start."""
_MARGIN_S = 5
"""After the drain limit, until Ray kills a replica that has not ended."""
_HEALTH_PERIOD_S = 5
_LOOK_S = 0.1


class Replica:
    """A copy of the service.

    Parameters
    ----------
    settings : Settings
        Of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._service: FastAPI | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Make the service; its lifespan, which Ray runs, loads the models."""
        self._service = create_app(self._settings)
        return self._service

    def reconfigure(self, user_config: Mapping[str, str]) -> None:
        """Take :data:`DEPLOYED_BY`, which is for those who look at it from outside."""

    async def check_health(self) -> None:
        """Be well when ``/readyz`` is.

        Ray asks for the first time before it sends requests, and takes an error for a failed start;
        so this waits for the models.
        """
        service = self._service
        if service is None:
            raise RuntimeError("the replica has no service yet")
        lifecycle = service.state.lifecycle
        while not lifecycle.ready and not lifecycle.draining:
            if lifecycle.failure is not None:
                raise RuntimeError(f"{LOAD_FAILED}{lifecycle.failure}")
            await asyncio.sleep(_LOOK_S)
        require_ready(service)


def replica_threads(settings: Settings) -> int:
    """Threads of a replica's forward pass: as many as it has processors, not all of the machine."""
    return settings.threads or max(1, int(settings.ray_cpus))


def build(settings: Settings, deployed_by: str = "") -> Any:
    """Make the application that ``serve.run`` takes.

    Parameters
    ----------
    settings : Settings
        Of the service.
    deployed_by : str
        Tells who has deployed it last; see :func:`deployed_by_whom`.

    Returns
    -------
    ray.serve.Application
        Not deployed.

    Raises
    ------
    ConfigurationError
        Ray Serve is not installed.
    """
    serve = import_serve()
    least, most = settings.replicas
    options: dict[str, Any] = {"num_replicas": least}
    if most > least:
        options = {
            "autoscaling_config": {
                "min_replicas": least,
                "max_replicas": most,
                "target_ongoing_requests": settings.ray_target_requests,
            }
        }
    # Ray would answer those beyond its own limit in its own words; the queue's limit is ours.
    deployment = serve.deployment(
        name=NAME,
        ray_actor_options={"num_cpus": settings.ray_cpus, "num_gpus": settings.ray_gpus},
        max_ongoing_requests=settings.max_connections,
        graceful_shutdown_timeout_s=settings.drain_timeout_s + _MARGIN_S,
        health_check_period_s=_HEALTH_PERIOD_S,
        max_constructor_retry_count=1,
        user_config={DEPLOYED_BY: deployed_by},
        **options,
    )(serve.ingress()(Replica))
    told = settings.model_copy(update={"threads": replica_threads(settings)})
    return deployment.bind(told)


def address_of_proxy() -> tuple[str, int]:
    """Where the cluster's Ray Serve listens."""
    options = _client().http_config
    return str(options.host), int(options.port)


def deployed_by_whom() -> str | None:
    """Who has deployed the service that is on the cluster; None if it is not, or ends."""
    found = _client().get_serve_details()["applications"].get(NAME)
    if found is None or found["status"] == "DELETING":
        return None
    configuration = found["deployments"].get(NAME, {}).get("deployment_config", {})
    return str((configuration.get("user_config") or {}).get(DEPLOYED_BY, ""))


def _client() -> Any:
    from ray.serve.context import _get_global_client  # Ray's API tells neither

    return _get_global_client()


def import_serve() -> Any:
    """Import Ray Serve, or say how to get it.

    Raises
    ------
    ConfigurationError
        It is not installed.
    """
    import_ray()
    try:
        from ray import serve
    except ImportError as error:
        raise ConfigurationError(
            "Ray Serve is not installed", hint="pip install 'splinellm[ray,service]'"
        ) from error
    return serve


def __getattr__(name: str) -> Any:
    """Make ``app`` from the environment's settings when somebody asks for it."""
    if name == "app":
        return build(load_settings())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
