"""The table of architectures says what the tests check."""

from __future__ import annotations

from tests.architectures import ATTACH_CASES, CASES, PREFIX_CASES
from tests.architectures_table import PATH, render


def test_page_is_up_to_date() -> None:
    assert PATH.read_text() == render(), "run: python -m tests.architectures_table"


def test_cases_of_other_tests_exist() -> None:
    assert set(CASES) >= PREFIX_CASES | ATTACH_CASES
