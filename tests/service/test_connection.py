"""Whatever a client sends, for however long: bounded bytes, bounded time, one shape of errors."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import psutil
import pytest

from service.connection import MAX_HEADERS
from tests.service.fakes import backbone_of
from tests.service.wire import JSON, TIMEOUT_S, Reply, Wire, read_all, replies, wired

LIMIT = 4096
MEGABYTE = b"a" * (1 << 20)
BLOCK = b'{"input": "BLOCK"}'
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
LAST_HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def post(content: bytes, *, extra: bytes = b"", path: bytes = b"/v1/classify") -> bytes:
    length = b"content-length: %d\r\n" % len(content)
    return b"POST %s HTTP/1.1\r\n%s%s%s\r\n%s" % (path, JSON, length, extra, content)


@pytest.fixture(scope="module")
def patient() -> Iterator[Wire]:
    """A service whose deadlines no test here waits for."""
    with wired(max_header_bytes=LIMIT) as wire:
        yield wire


@pytest.fixture(scope="module")
def hasty() -> Iterator[Wire]:
    with wired(max_header_bytes=LIMIT, header_timeout_s=0.3, body_timeout_s=0.3) as wire:
        yield wire


def check_refusal(reply: Reply, status: int, code: str) -> None:
    """In the one shape, with an id, and the connection ends."""
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["connection"] == "close"
    assert len(reply.headers["x-request-id"]) == 32
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.body.isascii()
    assert len(json.loads(reply.body)["error"]["message"]) <= 200


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ", *[MEGABYTE] * 8, b"\r\n\r\n"],
        [b"GET /healthz HTTP/1.1\r\n", MEGABYTE, b": 1\r\n\r\n"],
        [b"GET /", MEGABYTE, b" HTTP/1.1\r\n\r\n"],
        [b"GET /healthz?", *[b"a=1&" * 1000] * 2, b" HTTP/1.1\r\n\r\n"],
        [b"GET /healthz HTTP/1.1\r\n", b"x-a: b\r\n" * (MAX_HEADERS + 1), b"\r\n"],
        [b"GET /healthz HTTP/1.1\r\n", *[b"x-%d: b\r\n" % i for i in range(10_000)], b"\r\n"],
        [b"GET /healthz HTTP/1.1\r\nx-a: ", b" " * (1 << 20), b"\r\n\r\n"],
        [b"\r\n" * LIMIT],
    ],
    ids=["value", "name", "path", "query", "lines", "many", "spaces", "no line"],
)
def test_a_head_without_end(patient: Wire, pieces: list[bytes]) -> None:
    """Answered, or at least closed: never read to its end."""
    found = patient.say(*pieces)
    if found:  # an answer may be lost to a client that is still sending
        check_refusal(found[-1], 431, "head_too_large")
    assert httpx2.get(f"{patient.url}/healthz").status_code == 200


def test_a_head_at_the_limit_is_read(patient: Wire) -> None:
    rest = b"\r\nconnection: close\r\n\r\n"
    line = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: "
    for size, status in ((LIMIT - len(line + rest) - 16, 200), (LIMIT, 431)):
        (reply,) = patient.say(line + b"a" * size + rest)
        assert reply.status == status
    headers = b"".join(b"x-%d: b\r\n" % i for i in range(MAX_HEADERS - 2))
    (reply,) = patient.say(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + headers + rest[2:])
    assert reply.status == 200


def test_perspectives_clients_hear_it_in_their_shape(patient: Wire) -> None:
    (reply,) = patient.say(b"POST /v1alpha1/comments:analyze HTTP/1.1\r\nx-a: " + b"a" * LIMIT)
    error = json.loads(reply.body)["error"]
    assert (error["code"], error["details"][0]["reason"]) == (431, "head_too_large")


def test_refusals_are_counted_by_their_reason(patient: Wire) -> None:
    patient.say(b"GET / HTTP/1.1\r\nx-a: " + b"a" * LIMIT)
    metrics = httpx2.get(f"{patient.url}/metrics").text
    assert 'splinellm_rejected_total{reason="head_too_large"}' in metrics
    line = 'splinellm_requests_total{code="head_too_large",route="unmatched",status="431"}'
    assert line in metrics


@pytest.mark.parametrize(
    "garbage",
    [
        b"canary\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_the_one_shape(patient: Wire, garbage: bytes) -> None:
    (reply,) = patient.say(garbage)
    check_refusal(reply, 400, "invalid_request")
    assert b"canary" not in reply.body


def test_pipelined_requests_are_answered_in_order(patient: Wire) -> None:
    models = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    found = patient.say(HEALTH + models + post(b'{"input": "x"}') + HEALTH * 20 + LAST_HEALTH)
    assert [reply.status for reply in found] == [200] * 24
    assert [b'"list"' in reply.body for reply in found[:4]] == [False, True, True, False]


@pytest.mark.parametrize("second", [b"canary\r\n\r\n", b"GET / HTTP/1.1\r\nx-a: " + b"a" * LIMIT])
def test_a_refusal_never_stands_where_the_answer_before_it_belongs(second: bytes) -> None:
    with wired(max_header_bytes=LIMIT) as wire, wire.connect() as connection:
        connection.sendall(post(BLOCK))
        while not wire.metric("requests_in_flight 1.0"):
            pass
        connection.sendall(second)
        while 'route="unmatched"' not in httpx2.get(f"{wire.url}/metrics").text:
            pass
        backbone_of(wire.catalog.default).gate.open()
        (reply,) = replies(read_all(connection))
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert b'"object":"list"' in reply.body


def test_a_body_longer_than_announced(patient: Wire) -> None:
    first, *more = patient.say(post(b'{"input": "x"}') + b"canary\r\n\r\n")
    assert (first.status, more) == (200, [])


def test_http_1_0_and_absolute_targets(patient: Wire) -> None:
    (reply,) = patient.say(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    (reply,) = patient.say(LAST_HEALTH.replace(b"/healthz", b"http://other:1/healthz"))
    assert (reply.status, reply.body) == (200, b'{"status":"ok"}')
    (reply,) = patient.say(LAST_HEALTH.replace(b"GET /healthz", b"OPTIONS *"))
    assert (reply.status, reply.code) == (404, "not_found")


def test_upgrades_are_not_taken(patient: Wire) -> None:
    """The answer is that of the request without them, and the connection goes on."""
    for protocol in (b"websocket", b"h2c"):
        asked = b"\r\nconnection: upgrade\r\nupgrade: " + protocol + b"\r\n\r\n"
        with patient.connect() as connection:
            connection.sendall(HEALTH.replace(b"\r\n\r\n", asked))
            first = b""
            while not first.endswith(b'{"status":"ok"}'):
                first += connection.recv(65_536)
            connection.sendall(LAST_HEALTH)
            found = replies(first + read_all(connection))
        assert [reply.status for reply in found] == [200, 200]


def test_bodies_of_get_are_read_past(patient: Wire) -> None:
    with_body = HEALTH.replace(b"\r\n\r\n", b"\r\ncontent-length: 6\r\n\r\nGET / ")
    chunked = HEALTH.replace(
        b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n"
    )
    found = patient.say(with_body + chunked + LAST_HEALTH)
    assert [reply.status for reply in found] == [200] * 3


def test_continue_is_said_to_who_may_go_on(patient: Wire) -> None:
    expect = b"expect: 100-continue\r\nconnection: close\r\n"
    head, content = post(b'{"input": "x"}', extra=expect).split(b"\r\n\r\n")
    with patient.connect() as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(content)
        assert replies(read_all(connection))[0].status == 200
    too_large = head.replace(b"content-length: 14", b"content-length: 9000000")
    with patient.connect() as connection:
        connection.sendall(too_large + b"\r\n\r\n")
        (reply,) = replies(read_all(connection))
        assert (reply.status, reply.code) == (413, "payload_too_large")


CHUNKED = b"POST /v1/classify HTTP/1.1\r\n" + JSON + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"5;x=", *[MEGABYTE] * 4, b"\r\n"],
        [b'2\r\n{"\r\n0\r\nx-a: ', *[MEGABYTE] * 4, b"\r\n\r\n"],
        [b'2\r\n{"\r\n0\r\n', *[b"x-a: b\r\n" * 1000] * 40, b"\r\n"],
        [b"ffffffffffffffffffff\r\n", MEGABYTE],
        [b"canary\r\n"],
    ],
    ids=["extension", "trailer", "trailers", "size", "no size"],
)
def test_chunks_without_end_or_sense(patient: Wire, pieces: list[bytes]) -> None:
    found = patient.say(CHUNKED, *pieces)
    assert all(reply.status in (400, 431) for reply in found)
    assert httpx2.get(f"{patient.url}/healthz").status_code == 200


def test_trailers_are_no_headers(patient: Wire) -> None:
    """They are read past: a key or an id in one counts for nothing."""
    chunks = b'e\r\n{"input": "x"}\r\n0\r\nx-request-id: late\r\n\r\n'
    first, last = patient.say(CHUNKED + chunks + LAST_HEALTH)
    assert (first.status, last.status) == (200, 200)
    assert first.headers["x-request-id"] != "late"


def test_a_client_that_stops_in_the_middle(patient: Wire) -> None:
    for part in (b"GET /heal", post(b'{"input": "x"}')[:-4], CHUNKED + b"5\r\n{"):
        with patient.connect() as connection:
            connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b""


@pytest.mark.parametrize(
    "start",
    [
        b"G",
        b"GET /healthz HTTP/1.1\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: b",
        HEALTH + b"GET /v1/mod",
        post(b'{"input": "x"}') + b"POST ",
    ],
)
def test_a_head_that_does_not_come_to_its_end(hasty: Wire, start: bytes) -> None:
    *before, last = hasty.say(start)
    assert all(reply.status == 200 for reply in before)
    check_refusal(last, 408, "request_timeout")


@pytest.mark.parametrize("start", [b"", b"\r\n"])
def test_who_says_nothing_is_told_nothing(hasty: Wire, start: bytes) -> None:
    assert hasty.say(start) == []


def test_a_head_that_trickles(hasty: Wire) -> None:
    """Every byte is in time, the whole is not."""
    with hasty.connect() as connection:
        connection.settimeout(0.05)
        received = b""
        line = iter(b"GET /healthz HTTP/1.1\r\nx-a: " + b"a" * 10_000)
        while not received:
            try:
                connection.sendall(bytes([next(line)]))
                received = connection.recv(65_536)
            except TimeoutError:
                continue
    check_refusal(replies(received)[0], 408, "request_timeout")


@pytest.mark.parametrize("path", [b"/v1/classify", b"/v1alpha1/comments:analyze"])
def test_a_body_that_does_not_come_to_its_end(hasty: Wire, path: bytes) -> None:
    chunked = CHUNKED.replace(b"/v1/classify", path)
    for start in (post(b'{"input": "x"}', path=path)[:-1], chunked + b"2\r\n{", chunked):
        (reply,) = hasty.say(start)
        assert (reply.status, reply.code) == (408, "request_timeout")
        assert reply.headers["connection"] == "close"
        assert "x-should-retry" not in reply.headers
    assert 'rejected_total{reason="request_timeout"}' in httpx2.get(f"{hasty.url}/metrics").text


def test_a_body_that_nobody_reads_does_not_hold_the_connection(
    hasty: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.connection.LINGER_S", 0.1)
    for start in (
        HEALTH.replace(b"\r\n\r\n", b"\r\ncontent-length: 9\r\n\r\n"),
        post(b"", path=b"/no-such-path").replace(b"length: 0", b"length: 9"),
        post(b"").replace(b"length: 0", b"length: 9000000"),
    ):
        (reply,) = hasty.say(start)
        assert reply.status in (200, 404, 413)


def test_a_body_without_end_whose_answer_is_there_is_not_read_for_long(
    patient: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.connection.MAX_UNREAD_BYTES", 1 << 22)
    too_large = post(b"").replace(b"length: 0", b"length: %d" % (1 << 40))
    chunk = b"100000\r\n" + MEGABYTE + b"\r\n"
    for start, piece in ((too_large, MEGABYTE), (CHUNKED, chunk)):
        with patient.connect() as connection:
            connection.sendall(start)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                connection.sendall(piece * 256)


def ports_of_clients() -> set[int]:
    """Of all connections that this process, which is the service's, has open."""
    return {one.raddr.port for one in psutil.Process().net_connections("tcp") if one.raddr}


def test_an_answer_that_nobody_reads_is_dropped(
    patient: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.connection.STALLED_S", 0.2)
    text = " ".join(f"w{i}" for i in range(1000))
    fields = {"input": [text] * 4, "granularity": "prefix", "features": "paper,blocks"}
    whole = httpx2.post(f"{patient.url}/v1/features", json=fields, timeout=TIMEOUT_S).content
    with patient.connect() as connection:
        port = connection.getsockname()[1]
        connection.sendall(post(json.dumps(fields).encode(), path=b"/v1/features"))
        connection.recv(1)
        while any(
            one.raddr and one.raddr.port == port for one in psutil.Process().net_connections()
        ):
            pass
        assert len(read_all(connection)) < len(whole)


def test_slow_connections_do_not_stop_others(patient: Wire) -> None:
    with ExitStack() as opened:
        slow = [opened.enter_context(patient.connect()) for _ in range(200)]
        for number, connection in enumerate(slow):
            connection.sendall([b"GET /", CHUNKED, post(b"xyz")[:-1]][number % 3])
        assert httpx2.get(f"{patient.url}/readyz").status_code == 200
        content = {"input": "x"}
        assert httpx2.post(f"{patient.url}/v1/classify", json=content).status_code == 200


def test_more_connections_than_the_limit_are_told_when_to_come_back() -> None:
    with wired(max_connections=3) as wire, ExitStack() as opened:
        held = [opened.enter_context(wire.connect()) for _ in range(3)]
        for connection in held:
            connection.sendall(HEALTH)
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        (reply,) = wire.say(HEALTH)
        check_refusal(reply, 503, "too_many_connections")
        assert int(reply.headers["retry-after"]) > 0
        assert "x-should-retry" not in reply.headers
        held.pop().close()
        while (found := wire.say(LAST_HEALTH)) and found[0].status != 200:
            pass
        assert found[0].status == 200
        assert wire.catalog.default.engine.alive
