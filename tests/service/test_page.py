"""The page: complete in itself, and allowed to run exactly its own script and style."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from starlette.testclient import TestClient


def policy_of(client: TestClient) -> dict[str, str]:
    header = client.get("/").headers["content-security-policy"]
    return dict(part.strip().split(" ", 1) for part in header.split(";"))


@pytest.mark.parametrize("tag", ["script", "style"])
def test_only_its_own_parts_may_run(client: TestClient, tag: str) -> None:
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", client.get("/").text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    policy = policy_of(client)
    assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"


def test_nothing_comes_from_elsewhere(client: TestClient) -> None:
    """Nor is there what such a policy forbids: handlers and styles in attributes."""
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//""", answer.text)
    assert not re.search(r"<[^>]*\s(?:style|on\w+)=", answer.text)
    assert "innerHTML" not in answer.text  # texts and errors of others are only ever text
