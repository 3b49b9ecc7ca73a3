"""``splinellm serve --ray``: the service's replicas on a Ray cluster, until a signal comes."""

from __future__ import annotations

import os
import re
import signal
import time
import uuid
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

from service.logs import configure_logging, log_event
from service.ray_app import (
    LOAD_FAILED,
    NAME,
    address_of_proxy,
    build,
    deployed_by_whom,
    import_serve,
)
from service.ray_proxy import CALLBACK, VARIABLE
from service.server import INTERRUPTED, KEEP_ALIVE_S, listen
from service.settings import Settings
from splinellm.errors import ClusterError
from splinellm.ray.cluster import LOCAL, connected, require_room

_LOOK_S = 2.0


def serve_on_ray(settings: Settings) -> int:
    """Deploy the service, and take it back when a signal comes.

    Parameters
    ----------
    settings : Settings
        Of the service; ``ray`` is the cluster's address.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    SplineLLMError
        There is no such cluster, no room in it, the address is in use, no model can be loaded, or
        somebody else has ended the service.
    """
    address = settings.ray or LOCAL
    serve = import_serve()
    configure_logging(settings.log_level)
    if address == LOCAL:
        listen(settings.host, settings.port).close()  # Ray would share a port that is in use
    os.environ.setdefault(VARIABLE, CALLBACK)  # processes of a local cluster inherit it
    ended_by: list[int] = []

    def end(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        ended_by.append(number)
        raise KeyboardInterrupt

    with connected(address) as ray:
        _require_room(ray, settings, alone=address == LOCAL)
        is_first = not _is_running(ray)
        if is_first and address != LOCAL:
            listen(settings.host, settings.port).close()
        before = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}
        mark = uuid.uuid4().hex
        try:
            _start(serve, settings, is_first=is_first)
            _deploy(serve, settings, mark)
            log_event("ready", host=settings.host, port=settings.port)
            _wait_while_ours(mark)
            log_event("replaced")  # what another command has deployed is left to it
        except KeyboardInterrupt:
            log_event("draining")
        finally:
            _end(serve, mark, is_first=is_first)
            for one, handler in before.items():
                signal.signal(one, handler)
    log_event("stopped")
    return INTERRUPTED if ended_by[:1] == [signal.SIGINT] else 0


def _start(serve: Any, settings: Settings, *, is_first: bool) -> None:
    serve.start(
        http_options={
            "host": settings.host,
            "port": settings.port,
            "keep_alive_timeout_s": KEEP_ALIVE_S,
        },
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    there, ours = address_of_proxy(), (settings.host, settings.port)
    if not is_first and there != ours:
        raise ClusterError(
            "the cluster's Ray Serve listens on {}:{} already, not on {}:{}".format(*there, *ours),
            hint="give --host and --port as they are there, or end it with 'serve shutdown'",
        )


def _deploy(serve: Any, settings: Settings, mark: str) -> None:
    stood = deployed_by_whom() is not None
    try:
        serve.run(build(settings, mark), name=NAME, route_prefix="/")
    except BaseException as error:
        told = _message(serve)
        if not stood:  # else Ray leaves those replicas that can answer
            serve.delete(NAME)
        if not isinstance(error, RuntimeError):
            raise
        found = re.search(re.escape(LOAD_FAILED) + r"([^\n]+)", told + str(error))
        reason = found[1] if found else str(error).strip().splitlines()[-1]
        raise ClusterError(f"no replica starts: {reason}") from error


def _wait_while_ours(mark: str) -> None:
    """Wait until another command has deployed the service anew.

    Raises
    ------
    ClusterError
        It is there no more.
    """
    while True:
        time.sleep(_LOOK_S)
        try:
            now = deployed_by_whom()
        except Exception as error:
            raise ClusterError("Ray Serve is gone, and the service with it") from error
        if now is None:
            raise ClusterError("somebody else has taken the service off the cluster")
        if now != mark:
            return


def _end(serve: Any, mark: str, *, is_first: bool) -> None:
    """Take back what this command has deployed, and Ray Serve if it was started for that alone."""
    with suppress(Exception):  # a cluster that is gone, and replicas that do not end in time
        if deployed_by_whom() == mark:
            serve.delete(NAME)  # first, so that replicas answer what they have accepted
        if is_first and not serve.status().applications:
            serve.shutdown()


def _message(serve: Any) -> str:
    status = serve.status().applications.get(NAME)
    if status is None:
        return ""
    return "\n".join([status.message, *(one.message for one in status.deployments.values())])


def _is_running(ray: Any) -> bool:
    """Whether the cluster has Ray Serve, which then listens where it was told to."""
    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True


def _require_room(ray: Any, settings: Settings, *, alone: bool) -> None:
    """Refuse replicas that would wait for ever for a processor."""
    require_room(ray, settings.ray_cpus, settings.ray_gpus)
    least, _ = settings.replicas
    if not alone:  # it may grow
        return
    there = ray.cluster_resources()
    for kind, option, each in (
        ("CPU", "--ray-cpus", settings.ray_cpus),
        ("GPU", "--ray-gpus", settings.ray_gpus),
    ):
        has = float(there.get(kind, 0.0))
        if least * each > has:
            raise ClusterError(
                f"{least} replicas are to have {each:g} {kind}s each, and there are {has:g}",
                hint=f"give less with {option}, or fewer with --ray-replicas",
            )
