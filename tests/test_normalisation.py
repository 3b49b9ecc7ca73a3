"""What is taken off a text before a classifier reads it, and what stays."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splinellm.errors import ConfigurationError
from splinellm.normalisation import VERSION, normalise, normalised

FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize(
    "disguised",
    [
        "idiot" + "\u200b" * 30,
        "\ufeffi\u200bd\u200ci\u200do\u2060t",
        "i\u00add\u00adi\u00ado\u00adt",
        "\u202eidiot\u202c",
        "id\u034fio\u180et",
        "i\ufe0fd\ufe00i\U000e0100ot",
        "idiot\U000e0041\U000e0042",
        "id\u3164i\uffa0o\u115ft",
        "i\x00di\x7fot",
        "id\u0456\u043et",  # Cyrillic
        "\u0456d\u0456\u043et",
        "id\u03b9\u03bft",  # Greek
        "\uff49\uff44\uff49\uff4f\uff54",  # fullwidth
        "\U0001d4f2\U0001d4ed\U0001d4f2\U0001d4f8\U0001d4fd",  # mathematical
        "\u24d8\u24d3\u24d8\u24de\u24e3",  # circled
        "\u026a\u1d05\u026a\u1d0f\u1d1b",  # small capitals
        "i\u0336d\u0336i\u0336o\u0336t\u0336",
        "i\u0332d\u0332i\u0305o\u0333t\u033f",
        "i d i o t",
        "i\u00a0d\u00a0i\u00a0o\u00a0t",
        "i  d  i  o  t",
        "i.d.i.o.t",
        "i-d-i-o-t",
        "i_d_i_o_t",
        "i - d - i - o - t",
        "i\u200b \u200bd\u200b i o t",
        "&#105;d&#x69;ot",
        "&amp;#105;diot",
        "id&#8203;iot",
        "idi&shy;ot",
        "&\u200b#105;diot",
        "idi0t",
        "\u0456 d i \u043e t",
    ],
    ids=ascii,
)
def test_a_disguised_word_is_the_word(disguised: str) -> None:
    assert normalise(disguised).text == "idiot"
    assert normalise(f"you {disguised}, you").text == "you idiot, you"


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("iiidiooot", "idiot"),
        ("IDIOOOOOOT", "IDIOT"),
        ("quuuux zzzzap", "quux zzap"),
        ("nooOOoo", "noo"),
        ("b00bs", "boobs"),
        ("p0rn", "porn"),
        ("b@stard", "bastard"),
        ("bast@rd", "bastard"),
        ("a$$hole", "asshole"),
        ("n4zi", "nazi"),
        ("s\u0308\u0308\u0308\u0308o", "s\u0308\u0308o"),
        ("\ufb01lth", "filth"),
        ("\u0405\u0435\u0445 shop", "Sex shop"),  # Cyrillic letters alone, in Latin company
        ("&lt;b&gt; &amp; &quot;", '<b> & "'),
    ],
)
def test_what_letters_stand_for(disguised: str, plain: str) -> None:
    assert normalise(disguised).text == plain


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("1d10t", "idiot"),
        ("1d107!", "idiot!"),
        ("1Di0T", "iDioT"),
        ("455h0l3", "asshole"),
        ("bi7ch3s", "bitches"),
        ("a sh!t idea", "a shit idea"),
        ("$hit, $tupid", "shit, stupid"),
        ("ret@rded", "retarded"),
        ("y0u 4r3 4n 1d107", "you are an idiot"),
        ("get l0st, 7 of you, 2day!", "get lost, 7 of you, 2day!"),
        ("iiddiioott", "idiot"),
        ("YYouu aarre sttupiidd", "You are stupid"),
        ("asssshollee", "asshole"),
        ("sstt00pidd", "stoopid"),
        ("fuuuuuck", "fuck"),
        ("  y o u   a r e   an  i d i o t ,  see", "you are an idiot ,  see"),
        ("\u200bi\u200bdd1oo7", "idiot"),
    ],
    ids=ascii,
)
def test_signs_and_doubled_letters_that_hide_words(disguised: str, plain: str) -> None:
    found = normalise(disguised)
    assert found.text == plain
    assert normalise(plain).text == plain
    begin, end = found.original_span(0, len(plain))
    assert disguised[begin:end].strip("\u200b ") == disguised.strip("\u200b ")


def test_the_first_version_knows_no_words() -> None:
    assert normalise("1d10t iiidiooot idi0t", "1").text == "1d10t iidioot idiot"
    assert normalise("1d10t iiidiooot idi0t", "2").text == "idiot idiot idiot"


@pytest.mark.parametrize(
    "text",
    [
        "a booth at noon, a bee on the reed, his butt, thee, Moore, moose and pool",
        "mail @AmandaB, @author, @ABC; jo@host; a tool_t00l, path/st0re.x, x=g00d&y, 100%",
        "50ft, 10min, 100km, 4th, 1990s, item5, step7, utf8, 1e5, $50b, $5, US$, C++, h1n1",
        "if (!failed) { addr = conn[i]; errs += bool0; } // #c0ffee 0xdeadbeef",
        "Wow! Stop!now 3D 5G B12 A1 M4A1 i7-8700K e2e k8s MP3 win32 x86 s3 t3.micro",
        "Aaron Exxon aa bb ss Lloyd Kee-Wee Hawaii vacuum skiing",
    ],
)
def test_words_numbers_and_names_stay(text: str) -> None:
    assert normalise(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "An ordinary sentence, isn't it? 3,000 of them -- at 4:00 p.m.!",
        FAMILY,
        "\u2764\ufe0f 1\ufe0f\u20e3",
        ENGLAND,
        "\U0001f44d\U0001f3fd \U0001f1ee\U0001f1f3",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
        "\u0915\u094d\u200d\u0937",  # Devanagari
        "\u043f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430",
        "\u0441\u043e\u0440\u043e\u043a \u0421\u0421\u0421\u0420 \u0438 \u0430",
        "\u043c\u043e\u0441\u043a\u0432\u0430 is Moscow, \u0441\u043e\u0440",
        "\u03b3\u03b5\u03b9\u03b1 \u03c3\u03bf\u03c5",
        "the angle \u03b1 is 5",
        "\u6211 \u662f \u4e2d \u56fd \u4eba \u54c8\u54c8\u54c8\u54c8 \u3000\uff01",
        "\u3147\u3147\u3147 \u314b\u314b\u314b",
        "e\u0301te\u0301 Vi\u00ea\u0323t caf\u00e9 na\u00efve Stra\u00dfe",
        "x\u00b2 \u00bd \u2122 \u2116 1\u00aa",
        "mail me@example.org or root@localhost, see www.example.org",
        "World War III, IEEE, #fff, 0xffff, U.S.S.R., e.g., a.k.a.",
        "log4j, i18n, mp4, R2D2, x0y, Outer$Inner, $HOME, US$ 40, 4 of 10",
        "AT&T; fish & chips &unknown; &#; R&D",
        "a b c, x y z",
        "\t\n\v\f\r",
    ],
    ids=ascii,
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    found = normalise(text)
    assert found.text == text
    assert found.offsets == [(i, i + 1) for i in range(len(text))]


@pytest.mark.parametrize("text", ["\u200b", "\u200b\u00ad\ufeff", "&shy;", "\x00"])
def test_a_text_that_is_all_disguise_is_what_there_is(text: str) -> None:
    assert normalise(text).text == text


def test_offsets_refer_to_the_original() -> None:
    text = "so \u200bi.d.i.o.t\u200b &#105;s \ufb01ne"
    found = normalise(text)
    assert found.text == "so idiot is fine"
    begin = found.text.index("idiot")
    assert text[slice(*found.original_span(begin, begin + 5))] == "i.d.i.o.t"
    assert text[slice(*found.original_span(begin + 1, begin + 3))] == "d.i"
    assert text[slice(*found.original_span(9, 10))] == "&#105;"
    assert text[slice(*found.original_span(12, 13))] == "\ufb01"
    assert text[slice(*found.original_span(12, 16))] == "\ufb01ne"
    assert found.original_span(16, 16) == (len(text), len(text))
    assert normalise("").original_span(0, 0) == (0, 0)


def test_no_nesting_is_deep_enough_to_hide_in() -> None:
    text = "idiot"
    for _ in range(40):
        text = text.replace("i", "&#105;").replace("&#", "&\u200b#") if len(text) < 2000 else text
    found = normalise(text)
    assert normalise(found.text).text == found.text


ALPHABET = st.one_of(
    st.characters(),
    st.sampled_from(
        [
            *"abcIiooXV 04@$.-_&#;x19*!",
            *("sh!t", "1d10t", "iidd", "ss", "4r3"),
            *("&amp;", "&#105;", "&#x200b;", "&shy;", "&lt;", "lt;", "amp;", "#105;"),
            *("\u200b", "\u200d", "\ufe0f", "\u20e3", "\u0336", "\u0301", "\u034f", "\xa0"),
            *("\u0456", "\u043e", "\u0421", "\u0436", "\u03b1", "\u03c9", "\uff41", "\U0001d4f2"),
            *(
                "\uff06",
                "\ufe60",
                "\ufb03",
                "\u2764",
                "\U0001f469",
                "\U0001f170",
                "\u0645",
                "\u1820",
            ),
        ]
    ),
)


@given(st.lists(ALPHABET, max_size=40).map("".join))
@settings(max_examples=600, deadline=None)
def test_normalising_is_idempotent_and_keeps_its_place(text: str) -> None:
    found = normalise(text)
    assert bool(found.text) == bool(text)
    assert normalise(found.text).text == found.text
    assert len(found.text) == len(found.begins) == len(found.ends)
    previous = (0, 0)
    for begin, end in found.offsets:
        assert 0 <= begin < end <= len(text)
        assert (begin, end) >= previous
        previous = (begin, end)


def test_cards_name_a_version_that_is_known() -> None:
    assert normalised("i d i o t", None) == "i d i o t"
    assert normalised("i d i o t", VERSION) == "idiot"
    with pytest.raises(ConfigurationError, match="version 'x' are unknown"):
        normalised("idiot", "x")
