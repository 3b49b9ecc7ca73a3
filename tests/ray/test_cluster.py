"""What listens at an address and is no cluster is told of in one line, and does not hang."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from splinellm.errors import ClusterError
from splinellm.ray import cluster
from tests.ray import clusters

ROOM_S = 60
"""Ray itself would try for many minutes; a test's machine may be slow."""
CONNECT = """
import sys
from splinellm.ray.cluster import connected
with connected(sys.argv[1]) as ray:
    print(ray.cluster_resources()["CPU"])
"""


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a cluster that wants a token, as Ray makes them; the token is in its home."""
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with clusters.cluster() as address:
        yield address


def test_a_cluster_that_wants_its_token(
    guarded: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    with pytest.raises(ClusterError) as caught, cluster.connected(guarded):
        pytest.fail("there was no token")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"the Ray cluster at '{guarded}' wants its token: ")
    assert "InvalidAuthToken" in line
    assert "RAY_AUTH_MODE=token" in line
    assert time.monotonic() - began < ROOM_S
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    run = subprocess.run(
        [sys.executable, "-c", CONNECT, guarded], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "4.0\n"), run.stderr
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another's")
    with pytest.raises(ClusterError, match="wants its token"), cluster.connected(guarded):
        pytest.fail("it was another's token")


def test_something_else_listens(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setattr(cluster, "_TO_CONNECT_S", 8.0)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError) as caught, cluster.connected(address):
            pytest.fail("there is no cluster")
    assert str(caught.value).startswith(f"no Ray cluster at '{address}': what listens there")
    assert "port 6379" in str(caught.value)
    assert time.monotonic() - began < ROOM_S
    assert capfd.readouterr().err == ""  # Ray's own log would be there, line after line


def test_a_cluster_that_is_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with socket.create_server(("127.0.0.1", 0)) as one:
        gone = f"127.0.0.1:{one.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", gone)
    monkeypatch.setattr(cluster, "_TO_CONNECT_S", 8.0)
    with pytest.raises(ClusterError) as caught, cluster.connected(cluster.AUTO):
        pytest.fail("there is no cluster")
    (line,) = str(caught.value).splitlines()
    assert line.startswith("no Ray cluster at 'auto': what listens there")
    assert "ray start --head" in line
