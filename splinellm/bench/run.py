"""Time all sides over lengths, layers and dtypes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from splinellm.backbone.loading import load_backbone
from splinellm.bench.sides import BARE, EXTRACT, NAIVE, PRODUCTS, sides
from splinellm.bench.timing import interleaved, peak_megabytes, prompts_of
from splinellm.extraction import SplineExtractor
from splinellm.schema import FeatureSelection
from splinellm.statistics import COMPLEXITY

WORKLOADS = {"short": (48, 2, 64), "256": (12, 16, 256), "1024": (4, 60, 1024)}
"""Name to prompts, sentences of each, and the length that they are cut to."""


WITHOUT = "without"
"""Side of the row with the complexity: extraction of the other features alone."""


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Parameters
    ----------
    workload : str
        Name of the prompts' length; the model's limit, if that is less.
    dtype : str
        Of the forward pass.
    layers : str
        ``all``, or those asked for.
    features : str
        Those asked for.
    n_prompts, n_tokens : int
        Of the workload.
    seconds : dict of str to float
        Median of each side.
    megabytes : float, optional
        Peak memory of extraction above the loaded model's.
    """

    workload: str
    dtype: str
    layers: str
    features: str
    n_prompts: int
    n_tokens: int
    seconds: dict[str, float]
    megabytes: float | None

    def times_as_fast_as(self, side: str) -> float | None:
        """How many times as fast extraction is as another side; None if that was not timed."""
        return self.seconds[side] / self.seconds[EXTRACT] if side in self.seconds else None

    @property
    def ratios(self) -> dict[str, float]:
        """By side."""
        found = {side: self.times_as_fast_as(side) for side in (NAIVE, BARE, PRODUCTS, WITHOUT)}
        return {side: ratio for side, ratio in found.items() if ratio is not None}


def measure(
    model: str,
    *,
    dtypes: Sequence[str],
    workloads: Sequence[str],
    device: str = "auto",
    repeats: int = 3,
) -> Iterator[Result]:
    """Measure the four sides, the first three layers against all, and one more statistic.

    Parameters
    ----------
    model, device : str
        See :func:`splinellm.backbone.loading.load_backbone`.
    dtypes : sequence of str
        In half precision the distances are left out, which it cannot resolve.
    workloads : sequence of str
        Of :data:`WORKLOADS`.
    repeats : int
        Timed runs of each side.

    Yields
    ------
    Result
        One by one, as they are there.
    """
    for dtype in dtypes:
        backbone = load_backbone(model, dtype=dtype, device=device)
        features = "paper"
        if backbone.dtype != "float32":
            features = ",".join(FeatureSelection.parse(features).in_half_precision().names)
        for workload in workloads:
            n_prompts, n_sentences, max_tokens = WORKLOADS[workload]
            if (limit := backbone.max_positions or max_tokens) < max_tokens:
                max_tokens, length = limit, str(limit)  # an encoder has positions for no more
            else:
                length = workload
            prompts = prompts_of(n_prompts, n_sentences)
            more = f"{features},{COMPLEXITY.keyword}:{COMPLEXITY.default}"
            rows = {
                EXTRACT: ("all", features),
                "0-2": ("0-2", features),
                "more": ("all", more),
            }
            extractors = {
                row: SplineExtractor(
                    backbone, layers=layers, features=wanted, max_tokens=max_tokens
                )
                for row, (layers, wanted) in rows.items()
            }
            whole = extractors[EXTRACT]
            tasks = sides(whole, prompts)
            tasks |= {row: partial(it.extract, prompts) for row, it in extractors.items()}
            seconds = interleaved(tasks, repeats)
            n_tokens = int(whole.extract(prompts).n_tokens.sum())
            for row, (layers, wanted) in rows.items():
                timed = {side: seconds[side] for side in (NAIVE, BARE)}
                if row == EXTRACT:
                    timed[PRODUCTS] = seconds[PRODUCTS]
                if row == "more":
                    timed[WITHOUT] = seconds[EXTRACT]
                timed[EXTRACT] = seconds[row]
                megabytes = peak_megabytes(partial(extractors[row].extract, prompts))
                yield Result(length, dtype, layers, wanted, n_prompts, n_tokens, timed, megabytes)
