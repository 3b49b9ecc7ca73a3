"""What transformers' attention masks say about padding, and what models make of it.

A model that is not told the positions of its tokens counts columns, padding included. To the left
of a text this changes what models compute whose numbers depend on absolute positions; between two
tokens of it, as after a prompt that was padded on the right, it changes what nearly all compute.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from splinellm.backbone.architectures import Positions


def real_by_mask(mask: Any, n_rows: int, n_cached: int, n_new: int, device: torch.device) -> Tensor:
    """Which of the tokens of a forward pass are no padding.

    Parameters
    ----------
    mask : Tensor, dict or None
        A model's ``attention_mask``: (B, S) with 1 at tokens that count; (B, 1, T, S) or, for all
        tokens alike, (B, 1, 1, S), bool or added to the scores; or several of those by kind of
        layer, as `generate` prepares them for static caches. Without one, or with one of another
        kind, every token counts.
    n_rows, n_cached, n_new : int
        B, tokens in the cache, and T.
    device : torch.device
        Where the answer is wanted.

    Returns
    -------
    Tensor, shape (B, T), bool
    """
    if isinstance(mask, dict):
        mask = mask.get("full_attention", next(iter(mask.values()), None))
    real = torch.ones(n_rows, n_new, dtype=torch.bool, device=device)
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 4):
        return real
    first = min(n_cached, mask.shape[-1] - n_new)  # a window has no columns for older tokens
    if mask.ndim == 2:
        return mask[:, first : first + n_new].to(device).bool()
    # A token that does not attend to itself is padding.
    attends = mask[:, 0].expand(-1, n_new, -1).diagonal(offset=first, dim1=-2, dim2=-1).to(device)
    return real & (attends >= 0 if attends.is_floating_point() else attends.bool())


class PaddingWarning(UserWarning):
    """The model takes padding for a part of the text, so its numbers are not the text's."""


class Places:
    """Positions of the tokens that count, and warnings where padding has moved them.

    Parameters
    ----------
    model_type : str
        For messages.
    """

    def __init__(self, model_type: str) -> None:
        self._model_type = model_type
        self._next = torch.zeros(0, dtype=torch.int64)  # (B,), place of the next token, -1: unread
        self._is_padded = torch.zeros(0, dtype=torch.bool)  # (B,)
        self._has_padding = False  # any of them: known without asking the device
        self._is_prompt = False  # whether several columns were read last
        self._has_warned = False

    def select(self, rows: Tensor) -> None:
        """Take these rows, in this order."""
        self._next = self._next[rows.to(self._next.device)]
        self._is_padded = self._is_padded[rows.to(self._is_padded.device)]
        if self._has_padding:
            self._has_padding = bool(self._is_padded.any())

    def read(
        self,
        real: Tensor,
        n_cached: int,
        positions: Tensor | None,
        *,
        has_mask: bool,
        anew: bool,
        kind: Positions,
    ) -> int | None:
        """Go over the columns of a forward pass, and warn once of padding that moved tokens.

        Parameters
        ----------
        real : Tensor, shape (B, T), bool
            Tokens that are no padding.
        n_cached : int
            Columns before them.
        positions : Tensor, shape (B, T) or (1, T), optional
            As they were given to the model.
        has_mask : bool
            Whether the model was told of padding.
        anew : bool
            Whether there is no past.
        kind : {"relative", "columns", "mask"}
            What a token's place is where no positions are given; see
            :meth:`splinellm.backbone.decoder.Decoder.positions_among`.

        Returns
        -------
        int or None
            A row that holds several texts: given positions start anew in it, or jump where no mask
            says that there is padding.
        """
        n_rows, n_new = real.shape
        if anew:
            self._next = torch.full((n_rows,), -1, device=real.device)
            self._is_padded = torch.zeros(n_rows, dtype=torch.bool, device=real.device)
            self._has_padding = False
        if not has_mask and self._has_padding:
            self._warn(
                "the padding in the cache is read as text: no attention_mask is given for it",
                "pass the mask of all columns",
            )
        if has_mask and n_new > 1:
            self._is_padded |= ~real.all(dim=-1)
            self._has_padding = bool(self._is_padded.any())
        own = torch.arange(n_cached, n_cached + n_new, device=real.device)[None]
        places = (own if positions is None else positions.to(real.device)).expand(n_rows, -1)
        before = self._next.to(real.device)
        if n_new == 1:  # as in every step of `generate`
            after = places[:, 0] + 1
        else:
            last = n_new - 1 - real.flip(-1).int().argmax(dim=-1)
            after = places.gather(1, last[:, None])[:, 0] + 1
        self._next = after.where(real.any(dim=-1), before)
        was_prompt, self._is_prompt = self._is_prompt, n_new > 1
        if positions is not None:
            if was_prompt and self._has_padding and not anew and not self._has_warned:
                self._compare_given(real, places, before)
            return _row_of_several(real, places, has_mask=has_mask) if n_new > 1 else None
        if kind != "mask" and has_mask and not self._has_warned:
            self._compare(real, places, before, kind)
        return None

    def _compare(self, real: Tensor, places: Tensor, before: Tensor, kind: Positions) -> None:
        """Warn where columns are not the places that the text alone would have."""
        n_before = (real.cumsum(dim=-1) - 1).clamp(min=0)
        first = places.gather(1, real.int().argmax(dim=-1, keepdim=True))[:, 0]
        start = before.where(before >= 0, first)  # of a text that begins here, its own first place
        has_gap = ((places != start[:, None] + n_before) & real).any(dim=-1)
        is_late = (before < 0) & (first > 0) & real.any(dim=-1)
        if kind == "columns" and bool(is_late.any()):
            row = int(is_late.int().argmax())
            self._warn(
                f"row {row} is padded on the left, and {self._model_type} counts its positions "
                "from the padding on",
                "pass position_ids, pad on the right, or use generate, which does",
            )
        elif bool(has_gap.any()):
            row = int(has_gap.int().argmax())
            self._warn(
                f"padding lies between the tokens of row {row}, and {self._model_type} takes it "
                "for a distance",
                "pass position_ids, or pad on the left before going on with a cache",
            )

    def _compare_given(self, real: Tensor, places: Tensor, before: Tensor) -> None:
        """Warn where positions that were given do not go on, as `generate` gives them."""
        first = places.gather(1, real.int().argmax(dim=-1, keepdim=True))[:, 0]
        is_elsewhere = (first != before) & (before >= 0) & real.any(dim=-1)
        if bool(is_elsewhere.any()):
            row = int(is_elsewhere.int().argmax())
            self._warn(
                f"padding lies between the tokens of row {row}, and its position_ids go on from "
                "the padding",
                "pad on the left before going on with a cache",
            )

    def _warn(self, trouble: str, hint: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(f"{trouble} ({hint})", PaddingWarning, stacklevel=2)


def _row_of_several(real: Tensor, places: Tensor, *, has_mask: bool) -> int | None:
    """First row in which the positions of neighbours are not those of one text."""
    step = places.diff(dim=-1)
    are_neighbours = real[:, 1:] & real[:, :-1]
    breaks = (step < 1) if has_mask else (step != 1)
    rows = (breaks & are_neighbours).any(dim=-1)
    return int(rows.int().argmax()) if bool(rows.any()) else None
