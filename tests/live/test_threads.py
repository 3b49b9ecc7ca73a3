"""A model is watched in one thread at a time; who looks from another one is told."""

from __future__ import annotations

from threading import Barrier, Thread
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import StoppingCriteria

from splinellm import attach
from splinellm.errors import NothingRecordedError, SplineLLMError
from tests.live.models import (
    ALL,
    PROMPTS,
    causal_lm,
    check,
    extractor_of,
    left_padded,
    options,
)


def test_two_threads_at_once_are_told() -> None:
    model = causal_lm()
    inside, told = Barrier(2), list[str]()
    slow = model.model.layers[1].register_forward_pre_hook(lambda *_: [inside.wait(20)].clear())
    plain = extractor_of(causal_lm())

    def work() -> None:
        with torch.no_grad():
            model(input_ids=torch.tensor([[7, 8, 9]]))
        inside.wait(20)
        try:
            _ = recorder.table
        except SplineLLMError as error:
            told.append(str(error))

    with attach(model, features=ALL) as recorder:
        threads = [Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == 2
        assert all("thread" in message for message in told)
        slow.remove()
        with torch.no_grad():
            model(**left_padded())
        check(recorder.table, plain, PROMPTS)


def test_two_threads_that_generate_are_told() -> None:
    model = causal_lm()
    meet = Barrier(2)
    told = list[str]()

    class Meet(StoppingCriteria):
        """Both threads are in the middle of `generate`, and no pass is running."""

        def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
            meet.wait(20)
            return torch.zeros(len(input_ids), dtype=torch.bool)

    def work() -> None:
        model.generate(**left_padded(), **options(max_new_tokens=3), stopping_criteria=[Meet()])
        meet.wait(20)
        try:
            _ = recorder.table
        except NothingRecordedError as error:
            told.append(str(error))

    with attach(model) as recorder:
        threads = [Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == 2
        out = model.generate(**left_padded(), **options(max_new_tokens=3))
        assert out.shape == (3, 12)
        assert recorder.n_tokens.tolist() == [7, 11, 5]


def test_threads_that_take_turns() -> None:
    model = causal_lm()
    extractor = extractor_of(model)
    inputs = left_padded()
    wait, ask = Barrier(2), Barrier(2)
    failed = list[BaseException]()

    def other() -> None:
        try:
            with torch.no_grad():
                model(input_ids=torch.tensor([PROMPTS[0]]))
            check(recorder.table, extractor, PROMPTS[:1])
            wait.wait(20)
            ask.wait(20)
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            failed.append(error)

    with torch.no_grad(), attach(model, features=ALL) as recorder:
        model(**inputs)
        thread = Thread(target=other)
        thread.start()
        wait.wait(20)
        with pytest.raises(NothingRecordedError, match="another thread has run the model"):
            _ = recorder.table  # it is not that of this thread's pass
        ask.wait(20)
        thread.join()
        assert not failed
        check(recorder.table, extractor, PROMPTS[:1])  # once it has ended, it can be asked for


def test_a_thread_that_generates_while_this_one_looks() -> None:
    model = causal_lm()
    extractor = extractor_of(model)
    with attach(model, features=ALL) as recorder:
        out = list[Tensor]()
        thread = Thread(target=lambda: out.append(model.generate(**left_padded(), **options())))
        thread.start()
        thread.join()
        table = recorder.table
    texts = [[*prompt, *row[9:-1].tolist()] for prompt, row in zip(PROMPTS, out[0], strict=True)]
    check(table, extractor, texts)
