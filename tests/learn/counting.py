"""Counts what the model is really asked to read."""

from __future__ import annotations

from typing import Any

import pytest

from splinellm.backbone.recorder import Recorder


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return a list that fills with the token ids of every prompt of a forward pass."""
    prompts: list[list[int]] = []
    read = Recorder.read

    def counted(self, input_ids, lengths, **more: Any):
        prompts.extend(
            row[:length].tolist() for row, length in zip(input_ids, lengths, strict=True)
        )
        return read(self, input_ids, lengths, **more)

    monkeypatch.setattr(Recorder, "read", counted)
    return prompts
