"""Classifiers of toxicity beside what else one would take: cost and quality, in turns in one run.

Run ``python benchmarks/peers.py DATA [--classifiers toxicity,toxicity-fast,FOLDER] [--json FILE]``.
DATA is the folder of the sources that ``make classifiers`` reads. The peers are fitted here, to
the rows that `splinellm.classifiers.trials.kept_aside` leaves; every side is judged on the others.
A classifier whose card does not say that these were kept aside from it, too, may have been trained
on them, and the table says so. JSON goes to the file, the Markdown tables to standard output.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from peer_sides import MINILM, Side, reads_whole, sides

LONG = ("start", "middle", "end", "all")
Record = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Texts with zeros and ones, and where each is from."""

    texts: list[str]
    labels: np.ndarray
    sources: np.ndarray

    def where(self, rows: np.ndarray) -> Rows:
        """Of rows that are true."""
        places = np.flatnonzero(rows)
        return Rows([self.texts[i] for i in places], self.labels[rows], self.sources[rows])

    def sample(self, n: int, seed: int = 0) -> Rows:
        """At most `n` rows."""
        chosen = np.zeros(len(self.texts), np.bool_)
        chosen[np.random.default_rng(seed).permutation(len(self.texts))[:n]] = True
        return self.where(chosen)


def read(folder: Path) -> Rows:
    """All rows of the labelled sources, and clean ones of the domains (talk pages are jigsaw's)."""
    import pandas as pd

    positive = {
        "jigsaw": lambda f: f["toxic"].astype(str) == "1",
        "davidson": lambda f: f["label"] != "neither",
        "surge": lambda f: f["label"] == "toxic",
        "wiki_detox": lambda f: f["label"].astype(str) == "1",
        "toxigen_prompts": lambda f: f["label"] == "hate",
        "domains": lambda f: f["label"] == "toxic",
    }
    frames = []
    for name, is_toxic in positive.items():
        frame = pd.read_csv(folder / f"{name}.csv", keep_default_na=False)
        origin = "domains: " + frame["label"] if name == "domains" else name
        frame = frame.assign(toxic=is_toxic(frame), source=origin)
        frames.append(frame.loc[frame["text"].str.strip() != "", ["text", "toxic", "source"]])
    rows = pd.concat(frames)
    rows = rows[rows["source"] != "domains: wiki_talk"]
    return Rows(
        rows["text"].tolist(), rows["toxic"].to_numpy(np.int64), rows["source"].to_numpy(str)
    )


def fitted(side: Side, training: Rows, folder: Path) -> Path | None:
    """Fit a side's head and keep it, for this process and for that which measures memory."""
    if side.fit is None:
        return None
    path = folder / f"{len(side.name)}-{side.name[:6]}.joblib"
    joblib.dump(side.fit(training.texts, training.labels), path)
    return path


def memory(name: str, head: Path | None, classifiers: str, texts: Path) -> float | None:
    """Megabytes of a fresh process that loads a side and scores texts."""
    command = [sys.executable, __file__, "-", "--classifiers", classifiers, "--memory-of", name]
    command += ["--texts", str(texts), *([] if head is None else ["--head", str(head)])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1:] or [""]
    return float(last[0]) if done.returncode == 0 else None


def print_memory(options: argparse.Namespace) -> None:
    """What the process of :func:`memory` does."""
    (side,) = (s for s in sides(options.classifiers.split(",")) if s.name == options.memory_of)
    head = None if options.head is None else joblib.load(options.head)
    side.load(head)(json.loads(options.texts.read_text()))
    # Not getrusage: its maximum begins with that of the process which started this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1e3)


def speeds(
    scorers: Mapping[str, Any], texts: Sequence[str], turns: int, n_single: int
) -> dict[str, Record]:
    """Texts per second of each side, turn by turn, and ratios to the embedding within a turn.

    One by one also of those texts alone that the embedding reads to their end.
    """
    singles = texts[:n_single]
    is_whole = np.array(reads_whole(singles))
    found: dict[str, Record] = {name: {} for name in scorers}
    for kind, jobs in (("batch", [texts]), ("single", [[text] for text in singles])):
        times: dict[str, list[np.ndarray]] = {name: [] for name in scorers}
        for turn in range(turns + 1):
            for name, scores in scorers.items():
                measured = np.array([_seconds(scores, job) for job in jobs])
                if turn:  # the first warms up
                    times[name].append(measured)
        kinds = {kind: np.ones(len(jobs), np.bool_)}
        if kind == "single":
            kinds["single, whole"] = is_whole
        for each, which in kinds.items():
            n_texts = sum(len(job) for job, is_meant in zip(jobs, which, strict=True) if is_meant)
            taken = {name: [turn[which].sum() for turn in its] for name, its in times.items()}
            for name, its in taken.items():
                ratios = [b / a for a, b in zip(its, taken[MINILM], strict=True)]
                found[name][f"texts/s, {each}"] = n_texts / float(statistics.median(its))
                found[name][f"x MiniLM, {each}"] = float(statistics.median(ratios))
    return found


def _seconds(scores: Any, texts: Sequence[str]) -> float:
    begin = time.perf_counter()
    scores(texts)
    return time.perf_counter() - begin


def judged(scores: Any, name: str, test: Rows, options: argparse.Namespace) -> Record:
    """ROC-AUC by source, long texts, disguises, false alarms, hard cases."""
    from sklearn.metrics import roc_auc_score

    from splinellm.classifiers.hard_cases import judge_hard_cases
    from splinellm.classifiers.judging import Judge
    from splinellm.classifiers.trial_figures import (
        disguise_figures,
        false_alarm_figures,
        long_text_figures,
        threshold_at,
    )
    from splinellm.classifiers.trials import long_texts

    judge = Judge(name, scores)
    record: Record = {"roc_auc": {}}
    clean_scores = []
    for source in sorted(set(test.sources.tolist())):
        rows = test.where(test.sources == source)
        if source.startswith("domains"):
            continue
        rows = rows.sample(options.per_source)
        found = scores(rows.texts)
        clean_scores.append(found[rows.labels == 0])
        if 0 < rows.labels.sum() < len(rows.texts):
            area = float(roc_auc_score(rows.labels, found))
            record["roc_auc"][source] = {"rows": len(rows.texts), "roc_auc": area}
    # One threshold for all that follows, the same for every side: 5 % of plain clean texts.
    limit = threshold_at(np.concatenate(clean_scores), 0.05)
    toxic, clean = test.where(test.labels == 1), test.where(test.labels == 0)
    by_origin = {
        source: clean.where(clean.sources == source).texts
        for source in sorted(set(clean.sources.tolist()))
        if source.startswith("domains") or source == "jigsaw"
    }
    trial = long_texts(toxic.sample(400).texts, by_origin, n=options.long)
    record["long texts"] = long_text_figures(judge, trial)
    few = options.disguised
    record["disguise"] = disguise_figures(judge, toxic.sample(few).texts, threshold=limit)
    plain = clean.where(~np.char.startswith(clean.sources, "domains")).sample(few)
    record["false alarms"] = false_alarm_figures(judge, plain.texts, threshold=limit)
    record["hard cases"] = judge_hard_cases(Judge(name, scores, limit))
    return record


def has_seen(name: str) -> bool:
    """Whether a classifier may have been trained on what it is judged on."""
    from splinellm.classifiers.trials import KEPT_ASIDE
    from splinellm.learn.artifact import load_classifier

    return load_classifier(name).card.data.get("kept aside") != KEPT_ASIDE


def markdown(report: Record) -> str:
    """Tables for the README."""
    records = report["sides"]
    sources = sorted({s for r in records.values() for s in r.get("roc_auc", {})})
    titles = ["texts/s in batches", "x MiniLM", "texts/s one by one", "x MiniLM"]
    titles += ["those that MiniLM reads whole", "x MiniLM", "MB", *sources]
    titles += ["long texts", "worst disguise", "emoji, scripts, code, URLs", "hard cases"]
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for name, r in records.items():
        cells = [f"{r[key]:.3g}" for key in ("texts/s, batch", "x MiniLM, batch")]
        for kind in ("single", "single, whole"):
            cells += [f"{r[key]:.3g}" for key in (f"texts/s, {kind}", f"x MiniLM, {kind}")]
        cells.append("" if r["MB"] is None else f"{r['MB']:,.0f}")
        areas = r.get("roc_auc", {})
        cells += [f"{100 * areas[s]['roc_auc']:.1f}" if s in areas else "" for s in sources]
        cells += _trial_cells(r) if "long texts" in r else [""] * 4
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    notes = [f"- {name}: {r['note']}" for name, r in records.items() if r["note"]]
    lines += ["", report["about"], "", *notes, "", *_long_table(records)]
    return "\n".join(lines)


def _trial_cells(r: Record) -> list[str]:
    lost = {k: v for k, v in r["disguise"].items() if isinstance(v, dict) and k != "plain"}
    worst = max(lost, key=lambda k: lost[k]["lost"])
    alarms = r["false alarms"]
    others = "/".join(f"{100 * alarms[k]['flagged']:.0f}" for k in _ORNAMENTS)
    return [
        f"{100 * r['long texts']['all']['all']:.0f}",
        f"-{100 * lost[worst]['lost']:.0f} ({worst})",
        f"{others} (plain {100 * alarms['plain']['flagged']:.0f})",
        r["hard cases"]["right"],
    ]


_ORNAMENTS = ("emoji", "other scripts", "code", "URLs")


def _long_table(records: Record) -> list[str]:
    lines = ["| long texts: recall at 1 % false alarms | tokens | " + " | ".join(LONG) + " |"]
    lines.append("|---" * (len(LONG) + 2) + "|")
    for name, r in records.items():
        for length, row in r.get("long texts", {}).items():
            if isinstance(row, dict):
                cells = " | ".join(f"{100 * row[place]:.0f}" for place in LONG)
                lines.append(f"| {name} | {length} | {cells} |")
    return lines


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("data", type=Path, help="folder of the sources")
    add("--classifiers", default="toxicity,toxicity-fast", help="boxed names or folders, by commas")
    add("--json", type=Path, help="also write every figure here")
    add("--train-rows", type=int, default=6_000, help="that the peers are fitted to")
    add("--per-source", type=int, default=300, help="rows of a source for its ROC-AUC")
    add("--long", type=int, default=25, help="clean texts of each of four lengths")
    add("--disguised", type=int, default=100, help="texts for disguises and for false alarms")
    add("--texts", type=Path, help=argparse.SUPPRESS)
    add("--speed-texts", type=int, default=48, help="of a turn")
    add("--turns", type=int, default=5)
    add("--singles", type=int, default=16, help="texts of a turn read one at a time")
    add("--only-speed", action="store_true", help="judge nothing")
    add("--memory-of", help=argparse.SUPPRESS)
    add("--head", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = options_of()
    warnings.filterwarnings("ignore", module="sklearn")
    if options.memory_of is not None:
        print_memory(options)
        return
    from splinellm.bench.timing import machine
    from splinellm.classifiers.trials import KEPT_ASIDE, kept_aside

    rows = read(options.data)
    aside = kept_aside(rows.texts)
    training, test = rows.where(~aside).sample(options.train_rows), rows.where(aside)
    names = options.classifiers.split(",")
    found = sides(names)
    records: dict[str, Record] = {}
    with tempfile.TemporaryDirectory() as temporary:
        texts = Path(temporary) / "texts.json"
        timed = test.where(test.sources == "jigsaw").sample(options.speed_texts).texts
        texts.write_text(json.dumps(timed))
        scorers = {}
        for side in found:
            head = fitted(side, training, Path(temporary))
            megabytes = memory(side.name, head, options.classifiers, texts)
            scorers[side.name] = side.load(None if head is None else joblib.load(head))
            records[side.name] = {"note": side.note, "MB": megabytes}
            print(f"{side.name} is ready", file=sys.stderr)
        for name, figures in speeds(scorers, timed, options.turns, options.singles).items():
            records[name] |= figures
    for side, name in zip(found, names, strict=False):  # the classifiers are the first sides
        if has_seen(name):
            records[side.name]["note"] = "may have been trained on the rows it is judged on here"
    for side in () if options.only_speed else found:
        if side.is_judged:
            records[side.name] |= judged(scorers[side.name], side.name, test, options)
            print(f"{side.name} is judged", file=sys.stderr)
    about = (
        f"{machine()}. Speed: median of {options.turns} turns of {len(timed)} talk-page comments, "
        f"one by one {options.singles}, and those of them that MiniLM does not cut; MB: most "
        "resident memory of a process that does only "
        f"this. Judged on rows kept aside ({KEPT_ASIDE}): ROC-AUC x 100 by source; recall of short "
        "toxic texts in 200 to 1,000 clean tokens at 1 % false alarms; at the threshold that flags "
        "5 % of plain clean texts: points of recall lost to the worst disguise of every word, "
        "share flagged of clean texts with ornaments, and hard cases that are right. Peers were "
        f"fitted to {len(training.texts):,} rows of the same sources."
    )
    report = {"about": about, "sides": records}
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    print(markdown(report))


if __name__ == "__main__":
    main()
