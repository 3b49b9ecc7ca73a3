"""Words and marks where there are spaces between words, and where there are none."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from splinellm.learn.composing import (
    LENGTHS,
    PLACES,
    SHORT,
    Composition,
    filler_of,
    n_pieces,
    put_into,
)
from splinellm.learn.labels import Labels
from splinellm.learn.scripts import OF_ANY_SCRIPT, WORDS

SPACED = [
    "The tree is old. It isn't tall, is it?\n\nNo; but wide...",
    "Дерево старое. Оно не высокое!  Да, широкое",
    "पेड़ पुराना है। वह ऊँचा नहीं है",  # whose danda closes sentences, as Khmer's does
    "나무는 오래되었다. 크지 않다.",
    "الشجرة قديمة. ليست عالية",
    "Cây già. Nó không cao 🙂 3.5",
]
UNSPACED = {
    "Chinese": "树很老、也不高。河边有人散步、商店六点关门。我们明天再来看一看吧。",
    "Japanese": "木は古くて、高くない。川のそばを人が歩いている。カレーを食べましょう。",
    "Thai": "ต้นไม้เก่าแก่และไม่สูงคนเดินเล่นริมแม่น้ำร้านปิดตอนหกโมงเราจะมาอีกพรุ่งนี้น้ำใส",
    "Khmer": "ដើមឈើចាស់ហើយមិនខ្ពស់។មនុស្សដើរលេងតាមមាត់ទន្លេ។ហាងបិទម៉ោងប្រាំមួយ។",
    "Burmese": "သစ်ပင်ကအိုပြီးမမြင့်ဘူး။မြစ်ကမ်းမှာလူတွေလမ်းလျှောက်နေတယ်။ဆိုင်ကခြောက်နာရီပိတ်တယ်။",
}


@pytest.mark.parametrize("text", SPACED)
def test_of_scripts_with_spaces_nothing_is_otherwise(text: str) -> None:
    assert OF_ANY_SCRIPT.ends(text) == WORDS.ends(text)
    for length in range(1, 12):
        one, other = (
            filler_of([text], length, np.random.default_rng(0), pieces)
            for pieces in (WORDS, OF_ANY_SCRIPT)
        )
        assert one == other
        for place in PLACES:
            assert put_into(one, "x y", place) == put_into(one, "x y", place, OF_ANY_SCRIPT)


@pytest.mark.parametrize("name", UNSPACED)
def test_of_others_every_character_counts_and_keeps_its_signs(name: str) -> None:
    text = UNSPACED[name]
    assert OF_ANY_SCRIPT.count(text) == len(text)
    random = np.random.default_rng(0)
    for length in range(1, 100, 3):
        filler = filler_of([text], length, random, OF_ANY_SCRIPT)
        assert length <= len(filler.replace("\n\n", "")) <= length + 4  # signs of the last letter
        for place in PLACES:
            found = put_into(filler, "ok", place, OF_ANY_SCRIPT)
            before, after = found.split("ok")
            for part in (before.strip(), after.strip(), filler):
                # Nothing begins with a sign of a letter that was left behind.
                assert not part or unicodedata.category(part[0]) not in ("Mn", "Mc")
                assert not part.startswith(("\u0e33", "\u0eb3"))
    half = put_into(text, "ok", "middle", OF_ANY_SCRIPT).index("ok")
    assert abs(half - len(text) / 2) <= len(text) / 5 + 1


@pytest.mark.parametrize(
    ("filler", "short", "expected"),
    [
        ("树很老。河很长。", "好", "树很老。好河很长。"),
        ("树很老。河很长。", "ok", "树很老。 ok 河很长。"),
        ("「老木です。」川があります。", "はい", "「老木です。」はい川があります。"),
        ("ต้นไม้สูง", "ดี", "ต้นไ ดี ม้สูง"),
    ],
)
def test_what_is_put_in_the_middle_stands_as_it_would(
    filler: str, short: str, expected: str
) -> None:
    assert put_into(filler, short, "middle", OF_ANY_SCRIPT) == expected


@pytest.mark.parametrize("name", UNSPACED)
def test_composed_texts_are_as_long_in_every_script(name: str) -> None:
    """A sentence was one word: what was around a short text had hundreds of them."""
    letters = [one for one in UNSPACED[name] if one.isalpha()]
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(letters, size)) + "。" for size in random.integers(10, 90, 200)]
    labels = Labels("binary", ("clean", "toxic"), np.arange(200) % 2)
    composed = Composition.of(texts, labels).composed
    short = [len(texts[row]) for row in composed.short.tolist()]
    assert max(short) < SHORT
    lengths = [len("".join(text.split())) for text in composed.texts]
    around = np.array(lengths) - short
    assert around.min() >= LENGTHS[0] - 1
    assert around.max() <= LENGTHS[1]
    assert n_pieces(composed.texts[0]) < n_pieces(composed.texts[0], OF_ANY_SCRIPT)
