"""What listens at an address and is no cluster is told of in one line, and does not hang."""

from __future__ import annotations

import socket
import time

import pytest

from splinellm.errors import ClusterError
from splinellm.ray import cluster

ROOM_S = 60
"""Ray itself would try for many minutes; a test's machine may be slow."""


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
