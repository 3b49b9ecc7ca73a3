from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from splinellm.cli import loading, run
from splinellm.learn.artifact import save_classifier
from tests.cli.trained import trained
from tests.fakes import FakeExtractor, LearnableExtractor


@dataclass
class Result:
    """What a user sees of a run."""

    code: int
    stdout: bytes
    stderr: str


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[FakeExtractor]:
    """Put the fake in the model's place; the list gets every one that is loaded."""
    loaded: list[FakeExtractor] = []

    def load(**settings: object) -> FakeExtractor:
        loaded.append(LearnableExtractor.from_pretrained(**settings))  # type: ignore[arg-type]
        return loaded[-1]

    monkeypatch.setattr(loading, "load_extractor", load)
    return loaded


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
    fake: list[FakeExtractor],
) -> Callable[..., Result]:
    """Run a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SPLINELLM_")]:
        monkeypatch.delenv(name)

    def invoke(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        code = run(list(arguments))
        captured = capfdbinary.readouterr()
        return Result(code, captured.out, captured.err.decode())

    return invoke


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A classifier in the folder that the command line runs in."""
    save_classifier(trained("binary"), tmp_path / "clf")
    return "clf"
