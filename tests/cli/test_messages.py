"""Messages on standard error."""

from __future__ import annotations

import logging
import warnings

import pytest

from splinellm.cli.messages import say, show_log_as_lines, show_warnings_as_lines


def test_a_warning_is_one_line_and_shown_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # back at the end
    show_warnings_as_lines()
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # as if Python had forgotten
        warnings.showwarning("texts are\nlong", UserWarning, "file.py", 1)
        warnings.showwarning("texts are\nlong", UserWarning, "file.py", 1)
        warnings.showwarning("another", UserWarning, "file.py", 1)
    assert capsys.readouterr().err.splitlines() == [
        "splinellm: warning: texts are long",
        "splinellm: warning: another",
    ]


def test_the_log_is_lines_unless_somebody_else_writes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("splinellm")
    monkeypatch.setattr(logger, "handlers", [])
    show_log_as_lines()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    logging.getLogger("splinellm.backbone").warning("asking\nfor %s", "it")
    logging.getLogger("splinellm.backbone").info("nothing")
    monkeypatch.setattr(root, "handlers", [logging.NullHandler()])
    logging.getLogger("splinellm.backbone").warning("told by the service")
    assert capsys.readouterr().err.splitlines() == ["splinellm: asking for it"]


def test_what_is_quoted_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("no column '\x00\x1b[31m\u202e'")
    assert capsys.readouterr().err == "splinellm: no column '␀␛[31m\\u202e'\n"
