"""Write docs/architectures.md from the cases that the tests run.

    python -m tests.architectures_table

A column is a title and a function from an architecture to its cell. To add one that other tests
vouch for, let them take their parameters from a set of case names and read the cell off that set,
as for `PREFIX_CASES` and `ATTACH_CASES` in tests/architectures.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from splinellm.backbone.architectures import ARCHITECTURES
from tests.architectures import ATTACH_CASES, CASES, ENCODERS, PREFIX_CASES, Case

PATH = Path(__file__).parent.parent / "docs/architectures.md"

_HEAD = """\
# Architectures

Written by `python -m tests.architectures_table`; a test compares this file with what that writes.

An architecture is transformers' `model_type`. Each one was checked on tiny random models of the
real transformers class, whose weights, biases and norms are all random and whose attention is
neither uniform nor on one token:

- **seven features** and sign blocks equal those computed in NumPy, in float64, from the named
  weights and the input of the MLP, for prompts of 1 to 14 tokens in one right-padded batch;
- **dimension** with the relative and the absolute rule equals a count in the weights that eager
  attention returns, for the last token of every prompt of such a batch, of encoders for the first;
- **prefix**: row k of a prompt equals an extraction of its first k tokens alone, for every k;
- **encoders** (*both ways* below): a text has the same features alone and in any batch, whatever
  pads it; prefixes and `generate` are refused by name;
- prompts that share a beginning, read once, have the features that they have without sharing;
- a folder saved by `save_pretrained` loads, gives the same numbers and passes `verify()`;
- the model computes the same bits while it is watched, and no hook is left behind.

A dash means that nothing was checked, not that it fails.

"""

_TAIL = """
## What counts as a hyperplane

- **Gate and up projection in one map** (*fused* above): only the gate's rows, which are the first
  half.
- **No gate**: the rows of the map before the activation, as in encoders. Biases are part of *h*
  everywhere.
- **Mixture of experts**: the hyperplanes of a token are those of the experts that the router chose
  for it, so K is the number of experts chosen times the size of one. An expert that reads every
  token is one of them always. The chosen experts are ordered by their index, not by their weight,
  and then comes the shared one: the order depends on nothing but the choice, and rounding that
  swaps two close weights changes no sign block. A block of hyperplanes therefore belongs to
  different experts in different tokens. Norms are each expert's own. Layers of the same model that
  are no mixture have the K of their own map; a number of sign blocks must fit the smallest. The
  gates of the chosen experts are computed once more, in the dtype of the model.
- **Parallel layers** (GPT-NeoX, Phi, Falcon, Cohere): the input is what the MLP receives, as
  everywhere.

## What counts as attention

Queries and keys are seen after the position embedding, with the layer's own scaling, window and
mask. Gemma 2 softens its scores to *c* tanh(score / *c*), which changes the weights and so the
dimension; it is read with its own eager attention, since SDPA cannot do that, and holds the T x T
weights of one layer at a time.

Bloom and Falcon compute their attention by themselves, where it cannot be seen. Asking for
`intrinsic_dimension`, which is part of `paper`, is refused with `attention_unavailable`; `spline`
and `blocks` work. So it is with MPNet and DeBERTa-v2, which add biases to their scores inside.

**Encoders** attend both ways. The dimension is that of the first token (`[CLS]`, `<s>`) over all
tokens of the text, padding excluded; sign features and distances are taken over all tokens, those
that the tokenizer adds included. A text that is too long is cut before its last special tokens, as
transformers cuts, so that it still ends with `[SEP]`. Rows of `--granularity token` are of tokens
that have seen the whole text. What a prefix would be, no forward pass over the text shows:
`--granularity prefix` is refused with `prefix_unavailable`, and so is `generate` within `attach`.
A BERT with `is_decoder` is refused.

Not supported: GPT-OSS (attention sinks take weight that belongs to no token, and its experts
interleave gate and up projection), models whose layers are not all attention (MiniMax, LFM2, Jamba
and other hybrids) and encoder-decoders. They are refused by name before their weights are
read.
"""


def render() -> str:
    """Markdown of the whole page."""
    titles = [title for title, _ in COLUMNS]
    rows = [[cell(kind) for _, cell in COLUMNS] for kind in sorted(ARCHITECTURES)]
    lines = [titles, ["---"] * len(titles), *rows]
    return _HEAD + "".join(f"| {' | '.join(line)} |\n" for line in lines) + _TAIL


def _cases(kind: str) -> dict[str, Case]:
    return {name: case for name, case in CASES.items() if case.kind == kind}


def _dimension(kind: str) -> str:
    return "yes" if all(case.has_dimension for case in _cases(kind).values()) else "refused"


def _listed_in(names: set[str], of_encoders: str) -> Callable[[str], str]:
    def cell(kind: str) -> str:
        if ENCODERS & set(_cases(kind)):
            return of_encoders
        return "yes" if names & set(_cases(kind)) else "-"

    return cell


def _what(kind: str) -> str:
    traits: list[str] = []
    for case in _cases(kind).values():
        traits += [trait for trait in case.traits if trait not in traits]
    return ", ".join(traits)


COLUMNS: list[tuple[str, Callable[[str], str]]] = [
    ("architecture", lambda kind: f"`{kind}`"),
    ("seven features", lambda kind: "yes" if _cases(kind) else "-"),
    ("dimension", _dimension),
    ("prefix", _listed_in(PREFIX_CASES, "refused")),
    ("attach", _listed_in(ATTACH_CASES, "forward passes")),
    ("what was checked", _what),
]


if __name__ == "__main__":
    PATH.write_text(render())
