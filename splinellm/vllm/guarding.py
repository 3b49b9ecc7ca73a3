"""A logits processor of vLLM that ends requests, as a classifier says."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor

from splinellm.vllm.worker import current


class GuardProcessor(LogitsProcessor):  # type: ignore[misc]  # vLLM is not installed here
    """Lets a request that its classifier does not like choose nothing but its end.

    Given to the engine as ``logits_processors=["splinellm.vllm.guarding:GuardProcessor"]``; what it
    goes by is said by :func:`splinellm.vllm.attach_vllm` or by the server's settings.
    """

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse requests that nothing can end.

        Raises
        ------
        ValueError
            They ignore the end-of-sequence token; vLLM answers with status 400.
        """
        if sampling_params.ignore_eos:
            raise ValueError("ignore_eos is refused: a guard ends requests by that token")

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        del vllm_config, device, is_pin_memory

    def is_argmax_invariant(self) -> bool:
        """No: greedy requests are ended as well."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Nothing: rows are those of the step that was just read."""

    def apply(self, logits: Tensor) -> Tensor:
        """Leave the rows that must end nothing but the token that ends them, (B, V)."""
        if (watch := current()) is not None:
            for row, request in watch.ending():
                if row < len(logits) and request.stop_ids:
                    logits[row] = -float("inf")
                    logits[row, min(request.stop_ids)] = 0.0
        return logits
