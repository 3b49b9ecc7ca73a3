"""Compressed bodies: read as if they had come as they are, bounded, or refused by name."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.errors import InvalidEncodingError
from service.middleware.decompress import Inflating

LIMIT = 2_000_000
CONTENT = json.dumps({"input": ["one two", "three"]}).encode()


def packed(content: bytes) -> bytes:
    """As gzip, the same at any time."""
    return gzip.compress(content, mtime=0)


def ask(
    client: TestClient, content: bytes | Iterable[bytes], encoding: str, path: str = "/v1/classify"
) -> tuple[int, Any]:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    answer = client.post(path, content=content, headers=headers)  # type: ignore[arg-type]
    return answer.status_code, answer.json()


def code_of(client: TestClient, content: bytes | Iterable[bytes], encoding: str) -> tuple[int, str]:
    status, body = ask(client, content, encoding)
    return status, body["error"]["code"] if "error" in body else ""


def in_pieces(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", packed(CONTENT)),
        ("GZip", packed(CONTENT)),
        ("x-gzip", packed(CONTENT)),
        ("gzip, identity", packed(CONTENT)),
        ("deflate", zlib.compress(CONTENT)),
        ("identity", CONTENT),
        ("", CONTENT),
        ("gzip", packed(CONTENT[:9]) + packed(b"") + packed(CONTENT[9:])),
    ],
    ids=["gzip", "case", "x-gzip", "list", "deflate", "identity", "none", "members"],
)
def test_the_answer_is_that_of_the_plain_body(
    client: TestClient, encoding: str, content: bytes
) -> None:
    plain = client.post("/v1/classify", json=json.loads(CONTENT)).json()
    assert ask(client, content, encoding) == (200, plain)
    for size in (1, 7):
        assert ask(client, in_pieces(content, size), encoding) == (200, plain)


def test_every_route_reads_them(client: TestClient) -> None:
    for name in ("features", "classify", "embeddings", "moderations", "tokenize"):
        assert ask(client, packed(CONTENT), "gzip", f"/v1/{name}")[0] == 200
    comment = {"comment": {"text": "x"}, "requestedAttributes": {"TOXICITY": {}}}
    path, content = "/v1alpha1/comments:analyze", packed(json.dumps(comment).encode())
    assert ask(client, content, "gzip", path)[0] == 200
    status, body = ask(client, content, "br", path)
    assert (status, body["error"]["details"][0]["reason"]) == (415, "unsupported_encoding")


def test_the_limit_is_on_what_is_in_it_and_exact(client: TestClient) -> None:
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
        body = packed(CONTENT + b" " * (size - len(CONTENT)))
        assert ask(client, body, "gzip")[0] == status
        assert ask(client, in_pieces(body, 100), "gzip")[0] == status


def test_a_bomb_is_not_unpacked(client: TestClient) -> None:
    stream = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    bomb = b"".join(stream.compress(zeros) for _ in range(200)) + stream.flush()
    assert len(bomb) < LIMIT
    assert code_of(client, bomb, "gzip") == (413, "payload_too_large")
    inside = packed(bomb)
    assert code_of(client, inside, "gzip, gzip") == (415, "unsupported_encoding")


GOOD = packed(CONTENT)


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", CONTENT),
        ("gzip", GOOD[:-1]),
        ("gzip", GOOD[:-9]),
        ("gzip", GOOD[:5]),
        ("gzip", GOOD[:-5] + bytes([GOOD[-5] ^ 1]) + GOOD[-4:]),  # the checksum
        ("gzip", GOOD + b"garbage"),
        ("gzip", zlib.compress(CONTENT)),
        ("gzip", packed(b"") * 70),
        ("deflate", GOOD),
        ("deflate", zlib.compress(CONTENT) * 2),
    ],
    ids=[
        *("plain", "a byte short", "no end", "half a header", "checksum", "more behind", "zlib"),
        *("many members", "no zlib", "twice"),
    ],
)
def test_what_is_damaged_is_refused(client: TestClient, encoding: str, content: bytes) -> None:
    assert code_of(client, content, encoding) == (400, "invalid_encoding")
    assert code_of(client, in_pieces(content, 3), encoding) == (400, "invalid_encoding")


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "canary", "gzip, br", "br, gzip"])
def test_what_is_not_known_is_refused_by_name(client: TestClient, encoding: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    answer = client.post("/v1/classify", content=GOOD, headers=headers)
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    error = answer.json()["error"]
    assert error["code"] == "unsupported_encoding"
    assert "gzip, deflate" in error["message"]
    assert "canary" not in answer.text


def test_nothing_is_nothing_however_it_is_called(client: TestClient) -> None:
    plain = client.post("/v1/classify", content=b"", headers={"content-type": "application/json"})
    assert ask(client, b"", "gzip") == (400, plain.json())
    headers = {"content-encoding": "br"}
    assert client.get("/healthz", headers=headers).status_code == 200


def test_no_piece_is_large() -> None:
    """Others have their turn in between."""
    inflating = Inflating(["gzip"], 10**7)
    inflating.feed(packed(bytes(10**6)), more=False)
    sizes = []
    while not inflating.finished:
        sizes.append(len(inflating.step()))
    assert sum(sizes) == 10**6
    assert max(sizes) <= 65_536


def test_members_without_end_are_not_read() -> None:
    inflating = Inflating(["gzip"], 10**7)
    inflating.feed(packed(b"") * 10_000, more=True)
    with pytest.raises(InvalidEncodingError):
        inflating.step()
