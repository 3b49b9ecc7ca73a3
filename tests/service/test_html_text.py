"""The text of HTML is what browsers show of it: markup hides no more from a classifier."""

from __future__ import annotations

import pytest

from service.html_text import text_of_html


@pytest.mark.parametrize(
    "html",
    [
        "<head><body>an insult</body>",  # a head ends at the first text
        "<head>an insult",
        "<title><script></title>an insult",  # there are no scripts in titles
        "<iframe><!-- </iframe>an insult",
        "<script></script foo>an insult",
        "<style></STYLE/>an insult",
        "<!-- closed --!>an insult",
        "<!-->an insult",
        "<!--->an insult",
        "<![CDATA[ >an insult",
        "<textarea>an insult",
        "<textarea>an&#32;insult",
        "<xmp>an insult",
        "<plaintext>an insult",
    ],
)
def test_what_browsers_show_is_read(html: str) -> None:
    text, places = text_of_html(html)
    assert text == "an insult"
    assert html[places[0][0] : places[-1][1]] in ("an insult", "an&#32;insult")


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("a<textarea><script></textarea>b", "a<script>b"),
        ("a<plaintext></plaintext><script>b", "a</plaintext><script>b"),
        ("a<script>b</scripty>c</script>d", "ad"),
        ("a<!--!>b-->c", "ac"),
        ("a<style>b", "a"),
        ("a<title>b</title>c", "ac"),
        ("a<template><p>b</p></template>c", "ac"),
        ("a<![CDATA[b]]>c", "ac"),
    ],
)
def test_what_browsers_do_not_show_is_not(html: str, shown: str) -> None:
    text, places = text_of_html(html)
    assert text == shown
    assert "".join(html[begin:end] for begin, end in places) == shown
