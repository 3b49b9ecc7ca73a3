"""Run a model over tokenised prompts, batch after batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from splinellm.backbone.loading import Backbone
from splinellm.backbone.recorder import Recorder
from splinellm.backbone.reduction import PromptReduction, Reduction, TokenReduction
from splinellm.backbone.shared_prefix import Beginning
from splinellm.errors import NonFiniteFeaturesError, OutOfMemoryError, PromptError
from splinellm.extraction.batching import batch_size, longest_first
from splinellm.extraction.rows import Rows
from splinellm.extraction.sharing import Group, group_by_beginning
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.geometry import DimensionRule
from splinellm.schema import FeatureSchema

_T = TypeVar("_T")

_KEYS_PER_TOKEN = 32
"""Keys of a batch, its own and the shared ones of every row, per token of its budget."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """What became of one prompt.

    Parameters
    ----------
    position : int
        Of the prompt among those given.
    rows : ndarray, shape (R, L * F), float32, or None
        One row, or one per token; None if the prompt does not fit the memory.
    """

    position: int
    rows: np.ndarray | None

    def result(self, prompt: TokenizedPrompt, backbone: Backbone) -> Rows | PromptError:
        """The rows of the prompt that `backbone` read, or the reason why it has none."""
        if self.rows is None:
            return OutOfMemoryError(
                f"{len(prompt.ids)} tokens do not fit the memory of {backbone.device}",
                hint="lower --max-tokens",
            )
        if not np.isfinite(self.rows).all():
            return NonFiniteFeaturesError.after_pass_in(backbone.dtype)
        return self.rows


class BatchReader:
    """Reads prompts in batches of similar length, and what many of them begin with only once.

    Parameters
    ----------
    backbone : Backbone
        Its lock is held while reading.
    rule : DimensionRule
        When an attention weight counts.
    batch_tokens : int
        Padded tokens of a batch; halved for good whenever memory runs out.
    """

    def __init__(self, backbone: Backbone, rule: DimensionRule, batch_tokens: int) -> None:
        self.batch_tokens = batch_tokens
        self._backbone = backbone
        self._rule = rule

    def read(
        self, prompts: Sequence[TokenizedPrompt], schema: FeatureSchema
    ) -> Generator[list[Reading]]:
        """Read prompts that are tokenised.

        Parameters
        ----------
        prompts : sequence of TokenizedPrompt
            At least one token each.
        schema : FeatureSchema
            What is wanted of them.

        Yields
        ------
        list of Reading
            One batch; every prompt is in exactly one.
        """
        by_prompt = schema.granularity == "prompt"
        kind: type[Reduction] = PromptReduction if by_prompt else TokenReduction
        reduction = kind(schema, self._backbone.norms, self._rule)
        backbone = self._backbone
        # What a token of an encoder is depends on what follows it: beginnings cannot be shared.
        groups = self.groups(prompts, shares=by_prompt and not backbone.architecture.is_encoder)
        with (
            backbone.reading(),
            Recorder(backbone.model, backbone.architecture, reduction) as recorder,
        ):
            for group in groups:
                yield from self._read_group(recorder, prompts, group)

    def _read_group(
        self, recorder: Recorder, prompts: Sequence[TokenizedPrompt], group: Group
    ) -> Iterator[list[Reading]]:
        n_shared = group.n_shared
        beginning: Beginning | None = None
        if n_shared:
            shared = part_of(prompts[group.members[0]], 0, n_shared)
            counted = self.pad_counted([shared])
            told = {} if counted is None else {"counted": counted}
            beginning = unless_out_of_memory(
                partial(recorder.read_beginning, self.pad([shared.ids])[0], **told)
            )
            n_shared = n_shared if beginning else 0  # no memory for it: each prompt on its own
        rest = {position: part_of(prompts[position], n_shared) for position in group.members}

        def values(positions: Sequence[int]) -> Tensor:
            batch = [rest[position] for position in positions]
            padded = self.pad([prompt.ids for prompt in batch])
            return recorder.read(*padded, beginning=beginning, counted=self.pad_counted(batch))

        yield from self.in_batches(rest, n_shared, values)

    def groups(self, prompts: Sequence[TokenizedPrompt], *, shares: bool) -> list[Group]:
        """Group prompts by what they begin with, or put all in one group that shares nothing."""
        if not shares:
            return [Group([*range(len(prompts))], 0)]
        return group_by_beginning([_marked(prompt) for prompt in prompts])

    def in_batches(
        self,
        rest: Mapping[int, TokenizedPrompt],
        n_shared: int,
        values_of: Callable[[Sequence[int]], Tensor],
    ) -> Iterator[list[Reading]]:
        """Read what follows a beginning, longest first.

        Parameters
        ----------
        rest : mapping of int to TokenizedPrompt
            What is still to be read, by position.
        n_shared : int
            Tokens of the beginning.
        values_of : callable
            Reads some of them.
        """
        positions = list(rest)
        order = [positions[i] for i in longest_first([len(rest[p].ids) for p in positions])]
        while order:
            lengths = [len(rest[position].ids) for position in order]
            size = self._batch_size(lengths, n_shared)
            values = unless_out_of_memory(partial(values_of, order[:size]))
            if values is None and size > 1:
                self._halve_budget(size * lengths[0])
                continue
            yield [
                Reading(position, None if values is None else _rows(values[i], lengths[i]))
                for i, position in enumerate(order[:size])
            ]
            order = order[size:]

    def _batch_size(self, lengths: list[int], n_shared: int) -> int:
        """Prompts of the next batch; the keys that they share are copied for each of them."""
        most = _KEYS_PER_TOKEN * self.batch_tokens // (n_shared + lengths[0])
        return min(batch_size(lengths, self.batch_tokens), max(1, most))

    def pad(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Stack token ids, padded on the right: ids (B, T) and lengths (B,), on the device."""
        lengths = [len(ids) for ids in prompts]
        longest, device = max(lengths), self._backbone.device
        # Any valid id will do: by causality or by mask, real tokens do not see it.
        rows = [[*ids, *[0] * (longest - len(ids))] for ids in prompts]
        return torch.tensor(rows, device=device), torch.tensor(lengths, device=device)

    def pad_counted(self, prompts: Sequence[TokenizedPrompt]) -> Tensor | None:
        """Stack what counts, (B, T), on the device; None if all does."""
        if all(prompt.counted is None for prompt in prompts):
            return None
        counted = torch.zeros(
            len(prompts), max(len(prompt.ids) for prompt in prompts), dtype=torch.bool
        )
        for row, prompt in zip(counted, prompts, strict=True):
            row[: len(prompt.ids)] = torch.tensor(
                [True] * len(prompt.ids) if prompt.counted is None else prompt.counted
            )
        return counted.to(self._backbone.device)

    def _halve_budget(self, failed_size: int) -> None:
        self.batch_tokens = max(1, failed_size // 2)
        if self._backbone.device.type == "cuda":
            torch.cuda.empty_cache()
        _logger.warning("out of memory: batches are now of %d tokens", self.batch_tokens)


def part_of(prompt: TokenizedPrompt, begin: int, end: int | None = None) -> TokenizedPrompt:
    """Some consecutive tokens of a prompt, from `begin` to before `end`."""
    counted = None if prompt.counted is None else prompt.counted[begin:end]
    return TokenizedPrompt(prompt.ids[begin:end], prompt.truncated, counted)


def _marked(prompt: TokenizedPrompt) -> list[int]:
    """Ids, each in two versions: a beginning is shared only if the same of it counts."""
    if prompt.counted is None:
        return [2 * token for token in prompt.ids]
    return [
        2 * token + (not is_counted)
        for token, is_counted in zip(prompt.ids, prompt.counted, strict=True)
    ]


def unless_out_of_memory(run: Callable[[], _T]) -> _T | None:
    """What `run` gives, or None if there is no memory for it."""
    try:
        return run()
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        return None


def _is_out_of_memory(error: BaseException) -> bool:
    # On a CPU, on MPS and from a CUDA library it is a plain RuntimeError.
    signs = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        sign in str(error) for sign in signs
    )


def _rows(values: Tensor, n_tokens: int) -> np.ndarray:
    """Rows of one prompt out of (L, F), or out of (T, L, F) with padding."""
    if values.ndim == 2:
        return values.reshape(1, -1).numpy()
    return values[:n_tokens].flatten(1).numpy()
