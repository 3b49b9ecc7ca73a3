"""What can be said of the requests that are watched: their features, and what a judge says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from splinellm.errors import ConfigurationError, NonFiniteFeaturesError, NothingRecordedError
from splinellm.vllm.judging import Judge
from splinellm.vllm.requests import Request, Requests, Step
from splinellm.vllm.running import ANSWER, PROMPT, RunningStatistics

HALVES = {"all": (PROMPT, ANSWER), "prompt": (PROMPT,), "answer": (ANSWER,)}
"""What a row can be over."""


class Told:
    """Answers about requests.

    Parameters
    ----------
    requests : Requests
        Those.
    running : RunningStatistics
        Theirs.
    judge : Judge, optional
        Who judges them.
    has_dimension : bool
        Whether the dimension is among the features, which not every request has.
    """

    def __init__(
        self,
        requests: Requests,
        running: RunningStatistics,
        judge: Judge | None,
        *,
        has_dimension: bool,
    ) -> None:
        self._requests, self._running = requests, running
        self._judge, self._has_dimension = judge, has_dimension

    def rows(self, request_ids: Sequence[str], count: str) -> tuple[np.ndarray, list[list[int]]]:
        """Features of requests, (B, L, F), and of each: tokens counted, tokens of the prompt.

        Raises
        ------
        NothingRecordedError
            One is not known, or has no features; says why.
        NonFiniteFeaturesError
            The forward pass overflowed in one.
        """
        if count not in HALVES:
            raise ConfigurationError(
                f"unknown count '{count[:40]}'", hint="use all, prompt or answer"
            )
        packed, numbers = [], []
        for index, request_id in enumerate(request_ids):
            request, values = self._request(request_id)
            n_tokens = self._n_counted(request_id, request, count, index)
            if self._has_dimension:
                _require_dimension(request_id, request, count)
            numbers.append([n_tokens, request.n_prompt])
            packed.append(values)
        if not packed:
            return np.empty((0, *self._running.shape), np.float32), []
        return self._running.features(packed, HALVES[count]), numbers

    def verdict(self, request_id: str, index: int = 0) -> dict[str, Any]:
        """What the judge says of a request, in plain values.

        Raises
        ------
        NothingRecordedError, NonFiniteFeaturesError
            See :meth:`rows`.
        ConfigurationError
            Nobody judges.
        """
        judge = self._require_judge()
        request, packed = self._request(request_id)
        self._n_counted(request_id, request, "all", index)
        (probabilities,) = self._judged(judge, [request], [packed])
        return judge.verdict(request, probabilities)

    def ending(self, step: Step | None) -> list[tuple[int, Request]]:
        """Rows of the step that was just read whose requests must end, as the judge says."""
        if step is None or (judge := self._judge) is None or not judge.ends:
            return []
        asked = [
            it.request
            for it in step.parts
            if it.request.n_read >= it.request.n_prompt
            and not (it.request.trouble or it.request.is_broken or it.request.has_ended)
            and judge.look(it.request, it.request.n_answer)
        ]
        if asked:
            packed = [self._running.packed(it.slot) for it in asked]
            for request, found in zip(asked, self._judged(judge, asked, packed), strict=True):
                judge.decide(request, request.n_answer, found)
        return [(it.row, it.request) for it in step.parts if it.request.stop is not None]

    def _require_judge(self) -> Judge:
        if self._judge is None:
            raise ConfigurationError("no classifier was named", hint="attach with classifier=…")
        return self._judge

    def _judged(
        self, judge: Judge, requests: Sequence[Request], packed: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Probabilities of requests, (B, C), over all that was read of them."""
        return judge.probabilities(requests, self._running.features(packed, HALVES["all"]))

    def _request(self, request_id: str) -> tuple[Request, np.ndarray]:
        found = self._requests.packed(request_id)
        if found is None:
            raise NothingRecordedError(
                f"request '{request_id[:80]}' is not known here",
                hint="it was made while nobody watched, is forgotten, or was never begun",
            )
        return found

    def _n_counted(self, request_id: str, request: Request, count: str, index: int) -> int:
        """Tokens that a row would be over, if there can be one."""
        if request.trouble:
            raise NothingRecordedError(_told(request_id) + request.trouble)
        if request.is_broken:
            raise NonFiniteFeaturesError("the forward pass overflowed", index=index)
        n_counted = {PROMPT: min(request.n_read, request.n_prompt), ANSWER: request.n_answer}
        n_tokens = sum(n_counted[half] for half in HALVES[count])
        if n_tokens == 0:
            raise NothingRecordedError(
                _told(request_id) + "none of these tokens was read",
                hint="the last token of an answer never is; one of a single token has no row",
            )
        return n_tokens


def _told(request_id: str) -> str:
    return f"request '{request_id[:80]}' has no features: "


def _require_dimension(request_id: str, request: Request, count: str) -> None:
    is_of_answer = request.n_answer > 0 and ANSWER in HALVES[count]
    if not request.has_dimension or is_of_answer:
        raise NothingRecordedError(
            _told(request_id)
            + "intrinsic_dimension needs all keys in one step, and it was read in several",
            hint='count="prompt" with a prompt that one step reads whole '
            "(--max-num-batched-tokens), or features without intrinsic_dimension",
        )
