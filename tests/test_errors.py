from __future__ import annotations

import pytest

from splinellm.errors import NonFiniteFeaturesError, OutOfMemoryError, PromptError


@pytest.mark.parametrize("kind", [PromptError, NonFiniteFeaturesError, OutOfMemoryError])
@pytest.mark.parametrize("index", [None, 3])
def test_a_prompts_error_at_another_place(kind: type[PromptError], index: int | None) -> None:
    """Prompts may share what went wrong, but not where."""
    shared = kind("it overflowed", index=index, hint="use float32")
    places = [shared.at(place) for place in (0, 7)]
    assert [str(error) for error in places] == [
        f"prompt {place}: it overflowed (use float32)" for place in (0, 7)
    ]
    assert {type(error) for error in places} == {kind}
    assert [error.code for error in places] == [kind.code] * 2
    assert shared.index == index
