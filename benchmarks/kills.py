"""Kill ``splinellm extract`` at random moments, again and again, and see that nothing is lost.

Usage: python benchmarks/kills.py [--formats parquet,csv,...] [--kills 20] [--rows 2000] [...]
Of each format a run that nobody disturbs is made first. Then the same command, with ``--resume``,
is killed (SIGKILL) at moments of a seeded generator, until so many kills met a run. Whenever it
comes to its end, all its files must equal those of the first run, to the byte; then it begins anew.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
FORMATS = ("parquet", "csv", "csv.gz", "jsonl", "jsonl.gz")
TINY = "tiny"
ENDS = ("", ".rejects.jsonl", ".provenance.json")
"""Of the names of a run's files."""

forked = multiprocessing.get_context("forkserver")
"""Processes that have imported everything: kills meet a run, not its imports."""


def save_tiny(folder: str) -> None:
    """Keep a random model of three layers."""
    sys.path.append(str(ROOT))
    from tests.tiny import tiny_model, tiny_tokenizer

    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def command(arguments: list[str], chunk_rows: int) -> None:
    """Run a command line in this process, in chunks of so many rows."""
    from splinellm.cli import run
    from splinellm.io.readers import open_source

    open_source.__kwdefaults__["chunk_rows"] = chunk_rows
    sys.exit(run(arguments))


def started(function: Callable[..., None], *given: Any) -> BaseProcess:
    process = forked.Process(target=function, args=given)
    process.start()
    return process


def require_ended(process: BaseProcess) -> None:
    process.join()
    if process.exitcode:
        raise SystemExit(f"a run ended with code {process.exitcode}")


def rows_of(n_rows: int, data: Path | None) -> list[dict[str, Any]]:
    """Real texts or generated ones; each 500th is empty, which makes a bad row."""
    if data is not None:
        read = {".parquet": pd.read_parquet, ".csv": pd.read_csv}[data.suffix]
        found = read(data)["text"].head(n_rows)
        texts = [" ".join(str(text).split()) for text in found]
        if len(texts) < n_rows:
            raise SystemExit(f"{data} has {len(texts)} rows")
    else:
        source = random.Random(0)
        words = (ROOT / "README.md").read_text(encoding="utf-8").split()
        texts = [" ".join(source.choices(words, k=source.randint(2, 12))) for _ in range(n_rows)]
    return [{"id": i, "text": "" if i % 500 == 250 else text} for i, text in enumerate(texts)]


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write an input in the format of its name."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        if ".csv" in path.name:
            writer = csv.DictWriter(file, ["id", "text"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def ids_of(path: Path) -> list[int]:
    """Ids in an output, by readers that are not ours."""
    if path.suffix == ".parquet":
        return list(pq.read_table(path, columns=["id"])["id"].to_pylist())
    if ".csv" in path.name:
        return list(pd.read_csv(path, usecols=["id"])["id"])
    return list(pd.read_json(path, lines=True)["id"])


def files_of(output: Path) -> dict[str, bytes]:
    paths = {end: output.with_name(output.name + end) for end in ENDS}
    return {end: path.read_bytes() for end, path in paths.items() if path.exists()}


def require_whole(output: Path, plain: dict[str, bytes]) -> None:
    """All files are as those of the first run, and no part is left."""
    found = files_of(output)
    if differing := [end for end in ENDS if found.get(end) != plain.get(end)]:
        raise SystemExit(f"{output.name}: another content of {differing or 'nothing'}")
    if output.with_name(output.name + ".partial").exists():
        raise SystemExit(f"{output.name}: parts are left")


def begin_anew(output: Path) -> None:
    for end in ENDS:
        output.with_name(output.name + end).unlink(missing_ok=True)


def kill_at_random(
    start: Callable[[], BaseProcess],
    output: Path,
    plain: dict[str, bytes],
    *,
    n_kills: int,
    within_s: float,
    chance: random.Random,
) -> Counter[str]:
    """Kill a run and go on with it, until `n_kills` met it running, then to its end.

    Returns
    -------
    Counter of str
        Where kills met it; and ``whole``, how often it came to its end.
    """
    met: Counter[str] = Counter()
    parts = output.with_name(output.name + ".partial")
    n_parts = 0
    while met.total() - met["whole"] < n_kills:
        process = start()
        process.join(chance.uniform(0, within_s))
        process.kill()
        process.join()
        if process.exitcode == 0:
            met["whole"] += 1
            require_whole(output, plain)
            begin_anew(output)
            n_parts = 0
            continue
        if process.exitcode != -9:
            raise SystemExit(f"a run ended with code {process.exitcode}")
        if output.exists() and output.read_bytes() != plain[""]:
            raise SystemExit(f"{output.name}: a half is there under its name")
        before, n_parts = n_parts, len(list(parts.glob("part-*.arrow")))
        if output.exists():
            met["after its rename"] += 1
        elif n_parts > before:
            met["while it computed"] += 1
        elif n_parts == 0:
            met["before a part was done"] += 1
        else:
            met["while it went on"] += 1
    require_ended(start())
    met["whole"] += 1
    require_whole(output, plain)
    return met


def try_format(suffix: str, options: argparse.Namespace, model: str, folder: Path) -> None:
    source, output = folder / f"in.{suffix}", folder / f"out.{suffix}"
    rows = rows_of(options.rows, options.data)
    write_rows(rows, source)
    arguments = ["extract", str(source), "-o", str(output), "--model", model, "--threads", "1"]
    arguments += ["--features", options.features, "--on-error", "skip", "--quiet"]
    start = time.perf_counter()
    require_ended(started(command, arguments, options.chunk_rows))
    took_s = time.perf_counter() - start
    if ids_of(output) != [row["id"] for row in rows if row["text"]]:
        raise SystemExit(f"{output.name}: rows are missing where nobody killed anything")
    plain = files_of(output)
    begin_anew(output)
    chance = random.Random(f"{options.seed} {suffix}")
    met = kill_at_random(
        partial(started, command, [*arguments, "--resume"], options.chunk_rows),
        output,
        plain,
        n_kills=options.kills,
        within_s=took_s,
        chance=chance,
    )
    n_whole = met.pop("whole")
    told = ", ".join(f"{n} {where}" for where, n in sorted(met.items()))
    print(f"{suffix:<9} {met.total()} kills: {told}; {n_whole} times whole, equal", flush=True)


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--formats", default=",".join(FORMATS), help="comma separated")
    add("--kills", type=int, default=20, help="that meet a run, of each format")
    add("--rows", type=int, default=2000)
    add("--chunk-rows", type=int, default=128, help="as small as that, there is more to kill")
    add("--data", type=Path, help=".csv or .parquet with the column text, instead of made up rows")
    add("--model", default=TINY, help=f"or {TINY}: random, three layers")
    add("--features", default="paper,blocks:8")
    add("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = options_of()
    formats = options.formats.split(",")
    if unknown := set(formats) - set(FORMATS):
        raise SystemExit(f"unknown formats: {sorted(unknown)}")
    forked.set_forkserver_preload(["splinellm.cli", "splinellm.extraction.extractor"])
    told = f"{options.rows} rows in chunks of {options.chunk_rows}"
    print(f"{told}, {options.data.name if options.data else 'made up texts'}, {options.model}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model
        if model == TINY:
            model = str(folder / "model")
            require_ended(started(save_tiny, model))
        for suffix in formats:
            try_format(suffix, options, model, folder)


if __name__ == "__main__":
    main()
