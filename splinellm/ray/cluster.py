"""The Ray cluster that a run works on: found, or started on this machine."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

from splinellm.errors import ClusterError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL, AUTO = "local", "auto"
_STORE_BYTES = 100 << 20
"""Of Ray's memory for objects: rows never pass through it."""
_TO_ANSWER_S = 5.0
_TO_CONNECT_S = 40.0
_REASON_CHARS = 300
_PROBE = """
import logging, sys, warnings
import ray
warnings.simplefilter("ignore")
client = logging.getLogger("ray.util.client.worker")  # tells why to nobody else
client.setLevel(logging.DEBUG)
client.addHandler(logging.StreamHandler())
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
except Exception as error:
    print(f"reason: {error}")
    sys.exit(1)
"""
_WHY = re.compile(
    r"(?:Failed to get cluster ID from GCS server: |Received when checking init: |reason: )(.+)"
)
"""What Ray says of each try in its logs, and our program at the end."""
_TOKEN = re.compile(r"auth(?:entication)?[ _]?token", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[^/:\s]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


def import_ray() -> Any:
    """Import Ray, or say how to get it.

    Raises
    ------
    ConfigurationError
        It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError(
            "Ray is not installed", hint="pip install 'splinellm[ray]'"
        ) from error
    return ray


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Be connected to a cluster while the block runs.

    Parameters
    ----------
    address : str
        ``local`` starts one on this machine, which ends with the block; ``auto`` is the one that
        this machine belongs to; else ``HOST:PORT`` or ``ray://HOST:PORT``. A connection that the
        process has is used, and kept.

    Yields
    ------
    module
        Ray.

    Raises
    ------
    ClusterError
        There is none.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        quiet |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    else:
        if address != AUTO:
            _require_answer(address)
        _require_cluster(address)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's advice; what fails is told below
            ray.init(address=address, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise _no_cluster(address, [str(error)]) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Ray itself tries for minutes."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigurationError(
            f"'{address}' is no address of a Ray cluster",
            hint="local, auto, HOST:PORT or ray://HOST:PORT",
        )
    host, port = found["host"].strip("[]"), int(found["port"])
    try:
        socket.create_connection((host, port), timeout=_TO_ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"nothing answers at '{address}'",
            hint="is it the cluster's head, and is its port open?",
        ) from error


def _require_cluster(address: str) -> None:
    """Connect in a process that can be ended: Ray tries for a quarter of an hour, and writes.

    So it does wherever something listens that is no cluster, such as another server or a proxy,
    and where it is refused.
    """
    command = [sys.executable, "-c", _PROBE, address]
    said: list[str] = []
    is_late = threading.Event()
    with subprocess.Popen(  # noqa: S603 (this Python; the address is an argument)
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as tried:

        def end() -> None:
            is_late.set()
            tried.kill()

        timer = threading.Timer(_TO_CONNECT_S, end)
        timer.start()
        try:
            assert tried.stdout is not None  # noqa: S101 (it is a pipe)
            for line in tried.stdout:
                if found := _WHY.search(line):
                    said.append(found[1])
                    if _TOKEN.search(found[1]):  # trying again does not help
                        tried.kill()
            tried.wait()
        except BaseException:
            tried.kill()
            raise
        finally:
            timer.cancel()
    if is_late.is_set():
        said.append(f"what listens there does not answer as one within {_TO_CONNECT_S:g} s")
    if tried.returncode:
        raise _no_cluster(address, said or [f"Ray ended with {tried.returncode}"])


def _no_cluster(address: str, said: list[str]) -> ClusterError:
    """Tell what Ray said: at last, and before that if it is something else."""
    if address == LOCAL:
        return ClusterError(f"Ray does not start on this machine: {_shortened(said[-1])}")
    if refusal := next((each for each in said if _TOKEN.search(each)), None):
        return ClusterError(
            f"the Ray cluster at '{address}' wants its token: {_shortened(refusal)}",
            hint="set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what 'ray get-auth-token' prints "
            "on its head, unless it is in ~/.ray/auth_token here",
        )
    if address == AUTO:
        # Of Ray's advice, which is longer than ours, only what else it says.
        told = "" if "RAY_ADDRESS" in said[-1] else _shortened(said[-1])
        hint = "ray start --head starts one, and --ray local one for this run alone"
    else:
        told = _shortened(": ".join(dict.fromkeys([said[-1], *said[-2:-1]])))
        hint = (
            "HOST:PORT is what 'ray start --head' prints, port 6379 if it was not told another; "
            "ray://HOST:10001 is its port for clients, 8265 its dashboard's"
        )
    return ClusterError(f"no Ray cluster at '{address}'{': ' if told else ''}{told}", hint=hint)


def _shortened(reason: str) -> str:
    """Ray's words, without the advice that follows the first sentence."""
    return " ".join(reason.split(". Ensure that")[0].split(". Note: ")[0].split())[:_REASON_CHARS]


def require_room(ray: Any, n_cpus: float, n_gpus: float) -> None:
    """Refuse workers that no machine of the cluster has room for: they would wait for ever.

    Raises
    ------
    ClusterError
        Names what is wanted, and the most that one machine has.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for kind, option, wanted in (("CPU", "--ray-cpus", n_cpus), ("GPU", "--ray-gpus", n_gpus)):
        most = max((float(machine.get(kind, 0.0)) for machine in machines), default=0.0)
        if wanted > most:
            raise ClusterError(
                f"a worker is to have {wanted:g} {kind}s, and no machine has more than {most:g}",
                hint=f"give less with {option}",
            )
