"""Which parts of which layers a forward pass has shown: each wanted one must be seen once.

A compiled or captured model may run without its hooks, early exit and layer drop leave layers out,
and gradient checkpointing runs them again in the backward pass. Without this, the numbers of the
pass before would stand where new ones were not made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import get_ident
from typing import Any

from torch import Tensor, dtype

Ear = Callable[..., None]
"""Takes what a part of a layer shows."""


class Attendance:
    """Lets ears hear during a forward pass, and only then, and counts what they hear.

    Attributes
    ----------
    dtypes : set of torch.dtype
        Of the pre-activations of the last pass.
    """

    def __init__(self) -> None:
        self.dtypes: set[dtype] = set()
        self._expected: dict[tuple[str, int], None] = {}
        self._seen: Counter[tuple[str, int]] = Counter()
        self._thread: int | None = None  # of the pass that goes on

    def expects(self, part: str, layer: int, ear: Ear) -> Ear:
        """Wrap an ear, whose part must from now on be seen in every pass.

        Parameters
        ----------
        part : {"gate", "attention"}
            What the ear hears.
        layer : int
            Of which layer.
        ear : callable
            Is not called outside of a pass, by another thread, or for the second time.
        """
        key = part, layer
        self._expected[key] = None

        def hear(*shown: Any) -> None:
            if self._thread != get_ident():
                return
            self._seen[key] += 1
            if part == "gate" and isinstance(shown[0], Tensor):
                self.dtypes.add(shown[0].dtype)
            if self._seen[key] == 1:
                ear(*shown)

        return hear

    def begin(self) -> None:
        """Open a forward pass of this thread."""
        self._seen.clear()
        self.dtypes = set()
        self._thread = get_ident()

    @property
    def is_here(self) -> bool:
        """Whether a pass of this thread goes on."""
        return self._thread == get_ident()

    def end(self) -> None:
        """Close this thread's pass: what runs now, as in a backward pass, is not heard."""
        if self.is_here:
            self._thread = None

    def trouble(self) -> str | None:
        """What was not seen in the last pass, or more than once; None if nothing."""
        for part in ("gate", "attention"):
            counts = {
                layer: self._seen[its_part, layer]
                for its_part, layer in self._expected
                if its_part == part
            }
            missed = [layer for layer, n in counts.items() if n == 0]
            again = [layer for layer, n in counts.items() if n > 1]
            if missed or again:
                said = "not seen" if missed else "seen more than once"
                return (
                    f"the {part} of {_named(missed or again)} was {said} in the last forward pass"
                )
        return None


MISSED_HINT = "run every layer once and as it is: no early exit, layer drop or captured graph"


def _named(layers: list[int]) -> str:
    shown = ", ".join(map(str, layers[:8])) + (", ..." if len(layers) > 8 else "")
    return f"layer {shown}" if len(layers) == 1 else f"layers {shown}"
