"""Which parts of which layers a forward pass has shown: each wanted one must be seen once.

A compiled or captured model may run without its hooks, early exit and layer drop leave layers out,
and gradient checkpointing runs them again in the backward pass. Without this, the numbers of the
pass before would stand where new ones were not made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from threading import get_ident
from typing import Any, NamedTuple

from torch import Tensor, dtype, nn

from splinellm.backbone.eager import parts_of

Ear = Callable[..., None]
"""Takes what a part of a layer shows."""


class Turn(NamedTuple):
    """Which of the calls of a part in a forward pass is a layer's.

    Parameters
    ----------
    n_before : int
        Calls before it, by earlier layers that have the very same module.
    n_turns : int
        Calls of all layers that have it.
    """

    n_before: int = 0
    n_turns: int = 1


def turns_of(parts: Mapping[int, nn.Module], layers: Iterable[nn.Module]) -> dict[int, Turn]:
    """Find the turns of layers whose modules may be tied.

    Parameters
    ----------
    parts : mapping of int to Module
        The part of each wanted layer.
    layers : iterable of Module
        All layers, in the order in which they run.
    """
    owners: dict[nn.Module, list[int]] = {part: [] for part in parts.values()}
    for index, layer in enumerate(layers if owners else ()):
        for part in parts_of(layer):
            if part in owners:
                owners[part].append(index)
    return {
        index: Turn(owners[part].index(index), len(owners[part])) for index, part in parts.items()
    }


class Attendance:
    """Lets ears hear during a forward pass, and only then, and counts what they hear.

    Attributes
    ----------
    dtypes : set of torch.dtype
        Of the pre-activations of the last pass.
    """

    def __init__(self) -> None:
        self.dtypes: set[dtype] = set()
        self._expected: dict[tuple[str, int], Turn] = {}
        self._seen: Counter[tuple[str, int]] = Counter()
        self._thread: int | None = None  # of the pass that goes on

    def expects(self, part: str, layer: int, ear: Ear, turn: Turn) -> Ear:
        """Wrap an ear, whose part must from now on be seen in every pass.

        Parameters
        ----------
        part : {"gate", "attention"}
            What the ear hears.
        layer : int
            Of which layer.
        ear : callable
            Is not called outside of a pass, by another thread, or out of turn.
        turn : Turn
            Which call of the part is the layer's.
        """
        key = part, layer
        self._expected[key] = turn

        def hear(*shown: Any) -> None:
            if self._thread != get_ident():
                return
            self._seen[key] += 1
            if part == "gate" and isinstance(shown[0], Tensor):
                self.dtypes.add(shown[0].dtype)
            if self._seen[key] == turn.n_before + 1:
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
                layer: (self._seen[its_part, layer], turn)
                for (its_part, layer), turn in self._expected.items()
                if its_part == part
            }
            missed = [layer for layer, (n, turn) in counts.items() if n <= turn.n_before]
            again = [layer for layer, (n, turn) in counts.items() if n > turn.n_turns]
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
