"""The command ``splinellm bench``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from splinellm.cli import options
from splinellm.cli.messages import say

if TYPE_CHECKING:
    from splinellm.bench.run import Result

_DTYPES = ("float32", "bfloat16", "float16")
_WORKLOADS = ("short", "256", "1024")


def _split(values: str, allowed: tuple[str, ...]) -> list[str]:
    items = [item.strip() for item in values.split(",")]
    for item in items:
        if item not in allowed:
            raise typer.BadParameter(f"'{item}' is none of {', '.join(allowed)}")
    return items


def bench(
    model: options.Model = "smollm2-135m",
    dtypes: Annotated[
        str,
        typer.Option(
            "--dtypes",
            envvar="SPLINELLM_DTYPES",
            metavar="LIST",
            callback=lambda value: value and ",".join(_split(value, _DTYPES)),
            help="Such as float32,bfloat16. Half precision is slow on a CPU without AVX-512 BF16.",
        ),
    ] = "float32",
    lengths: Annotated[
        str,
        typer.Option(
            "--lengths",
            envvar="SPLINELLM_LENGTHS",
            metavar="LIST",
            callback=lambda value: value and ",".join(_split(value, _WORKLOADS)),
            help="Of short (about 30 tokens), 256 and 1024.",
        ),
    ] = ",".join(_WORKLOADS),
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats", envvar="SPLINELLM_BENCH_REPEATS", min=1, help="Timed runs of each."
        ),
    ] = 3,
    device: options.Device = "auto",
    threads: options.Threads = None,  # noqa: ARG001 (its callback does it)
    json_lines: Annotated[
        bool,
        typer.Option("--json", envvar="SPLINELLM_JSON", help="JSON lines instead of a table."),
    ] = False,
) -> None:
    """Time extraction on this machine against three yardsticks.

    naive: one prompt at a time, eager attention, head, nothing stopped. bare: the model's own
    forward pass in the same batches. products: the matrix products alone. without: the same
    features without the complexity, for the row that has it. The figures are how many times as fast
    extraction is; they are taken in turns, since machines drift.
    """
    from splinellm.bench.run import measure
    from splinellm.bench.timing import machine

    say(machine())
    results = measure(
        model,
        dtypes=dtypes.split(","),
        workloads=lengths.split(","),
        device=device,
        repeats=repeats,
    )
    if not json_lines:
        typer.echo(_HEADER)
    for result in results:
        typer.echo(
            json.dumps(asdict(result) | {"ratios": result.ratios}) if json_lines else _line(result)
        )


_HEADER = (
    "| tokens | dtype | layers | features | prompts/s | tokens/s | MB | x naive | x bare "
    "| x products | x without |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def _line(result: Result) -> str:
    rates = [count / result.seconds["extract"] for count in (result.n_prompts, result.n_tokens)]
    ratios = [result.times_as_fast_as(side) for side in ("naive", "bare", "products", "without")]
    cells = [
        result.workload,
        result.dtype,
        result.layers,
        result.features,
        f"{rates[0]:.1f}",
        f"{rates[1]:.0f}",
        "" if result.megabytes is None else f"{result.megabytes:.0f}",
        *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
    ]
    return f"| {' | '.join(cells)} |"
