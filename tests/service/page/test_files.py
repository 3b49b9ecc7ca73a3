"""The page's files: complete in themselves, and allowed to run nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

FOLDER = Path(__file__).parents[3] / "service" / "page"
SOURCES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".js", ".css"))


def policy_of(client: TestClient) -> dict[str, str]:
    header = client.get("/").headers["content-security-policy"]
    return dict(part.strip().split(" ", 1) for part in header.split(";"))


def test_only_its_own_files_may_run(client: TestClient) -> None:
    policy = policy_of(client)
    assert policy["default-src"] == policy["form-action"] == policy["trusted-types"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    page = client.get("/").text
    assert not re.search(r"<style|<script(?![^>]*\ssrc=)", page)


def test_nothing_comes_from_elsewhere(client: TestClient) -> None:
    """Nor is there what such a policy forbids: handlers and styles in attributes."""
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//""", answer.text)
    assert not re.search(r"<[^>]*\s(?:style|on\w+)=", answer.text)


@pytest.mark.parametrize("name", SOURCES)
def test_files_are_short_and_only_write_text(name: str) -> None:
    """Texts and errors of others are only ever text."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(", text)
    addresses = set(re.findall(r"https?://[^\s\"')]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}


def test_its_files_are_asked_for_by_what_they_hold(client: TestClient) -> None:
    found = re.findall(r'(?:src|href)="(static/[^"]+)"', client.get("/").text)
    assert len(found) == 3
    (folder,) = {path.rsplit("/", 1)[0] for path in found}
    for name in SOURCES:
        answer = client.get(f"/{folder}/{name}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        kind = "text/javascript" if name.endswith(".js") else "text/css"
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert client.get(f"/static/page/older/{name}").headers["cache-control"] == "no-store"
    for path in ("index.html", "..%2f..%2fapp.py", "nothing.js"):
        assert client.get(f"/{folder}/{path}").status_code == 404
