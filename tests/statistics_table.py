"""The table of statistics in docs/features.md: `python -m tests.statistics_table` writes it."""

from __future__ import annotations

from pathlib import Path

from splinellm.statistics import COMPLEXITY, ENTRIES, Family, Statistic

PATH = Path(__file__).parent.parent / "docs/features.md"
_BEGIN, _END = "<!-- statistics -->\n", "<!-- /statistics -->\n"


def render() -> str:
    """Markdown of the whole page, with the table anew."""
    before, _, rest = PATH.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    titles = ["columns of a prompt", "of a token", "what", "values", "half precision", "asked for"]
    rows = [titles, ["---"] * len(titles), *map(_row, ENTRIES)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"{before}{_BEGIN}{table}{_END}{after}"


def _row(entry: Statistic | Family) -> list[str]:
    statistic = entry.make(entry.default) if isinstance(entry, Family) else entry
    return [
        _listed(tuple(statistic.columns)),
        _listed(statistic.token_columns),
        statistic.meaning,
        statistic.values,
        _in_half(entry),
        _listed(entry.sets),
    ]


def _in_half(entry: Statistic | Family) -> str:
    if entry is COMPLEXITY:
        smaller = COMPLEXITY.make("0.049999")
        assert not smaller.holds_in_half
        return "holds from a radius of 0.05 on, noise below"
    statistic = entry.make(entry.default) if isinstance(entry, Family) else entry
    return "holds" if statistic.holds_in_half else "noise"


def _listed(names: tuple[str, ...]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " ".join(quoted if len(quoted) < 6 else [quoted[0], "…", quoted[-1]]) or "by name"


if __name__ == "__main__":
    PATH.write_text(render())
