"""Mean-pooled last hidden states: the baseline that every feature has to be compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from splinellm.errors import NonFiniteFeaturesError
from splinellm.extraction.batching import batch_size, longest_first
from splinellm.geometry import real_tokens
from splinellm.prompts import Prompt, as_prompts

if TYPE_CHECKING:
    from splinellm.extraction.extractor import SplineExtractor


def mean_hidden_states(
    extractor: SplineExtractor,
    prompts: Sequence[Prompt],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Average the last layer's normalised output over each prompt's tokens.

    Parameters
    ----------
    extractor : SplineExtractor
        Its model, tokenizer, token limit and batch budget are used; all layers are run.
    prompts : sequence of str or of sequences of int
        N prompts.
    on_progress : callable, optional
        Called after each batch with the prompts and tokens it held.

    Returns
    -------
    ndarray, shape (N, D), float32

    Raises
    ------
    PromptError
        A prompt cannot be read.
    """
    prompts = as_prompts(prompts)
    tokenized, errors = extractor.tokenize(prompts)
    if errors:
        raise errors[min(errors)]
    backbone = extractor.backbone
    order = longest_first([len(tokenized[i].ids) for i in range(len(prompts))])
    means = np.empty((len(prompts), backbone.hidden_size), np.float32)
    with backbone.reading():
        while order:
            size = batch_size([len(tokenized[i].ids) for i in order], extractor.batch_tokens)
            batch, order = order[:size], order[size:]
            input_ids, lengths = extractor.reader.pad([tokenized[i].ids for i in batch])
            real = real_tokens(lengths, input_ids.shape[1])
            arguments = backbone.architecture.arguments(real)
            states = backbone.model(input_ids=input_ids, **arguments).last_hidden_state
            real = real[..., None].to(states.device)
            total = states.float().where(real, 0.0).sum(dim=1)
            means[batch] = (total / lengths[:, None].to(states.device)).cpu().numpy()
            if on_progress is not None:
                on_progress(size, int(lengths.sum()))
    for index in np.flatnonzero(~np.isfinite(means).all(axis=1)).tolist():
        raise NonFiniteFeaturesError("the forward pass overflowed", index=index)
    return means
