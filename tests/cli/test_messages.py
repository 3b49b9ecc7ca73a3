"""Messages on standard error."""

from __future__ import annotations

import warnings

import pytest

from splinellm.cli.messages import show_warnings_as_lines


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
