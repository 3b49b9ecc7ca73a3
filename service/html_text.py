"""The text of HTML, and where in the HTML each of its characters comes from."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

_LAST = "plaintext"
"""Has no end."""
_RAW = ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes", _LAST)
"""Elements in which markup is text, up to their end; what looks like a script there is none."""
_SILENT = frozenset([*_RAW, "template"]) - {"textarea", "xmp", _LAST}
"""Elements whose content nobody sees. Not ``head``: browsers end it at the first text in it."""
_REFERENCE = re.compile("&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);?")
_BREAKS = frozenset(
    [
        *("address", "article", "blockquote", "br", "dd", "div", "dt", "hr", "li", "ol", "p"),
        *("pre", "section", "table", "td", "th", "tr", "ul"),
        *(f"h{level}" for level in range(1, 7)),
    ]
)
"""Elements that stand on lines of their own."""


def text_of_html(html: str) -> tuple[str, list[tuple[int, int]]]:
    """Strip HTML to what a reader sees.

    Parameters
    ----------
    html : str
        Anything; what is no markup is text.

    Returns
    -------
    text : str
        Empty if there is nothing to see.
    places : list of (int, int)
        Begin and end in `html`, in code points, of what each character of the text stands for.
    """
    reader = _Reader(html)
    reader.feed(html)
    reader.close()
    return "".join(reader.characters), reader.places


class _Reader(HTMLParser):
    """Hides no more than browsers do, or markup would hide what is said from a classifier."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self.characters: list[str] = []
        self.places: list[tuple[int, int]] = []
        self._html = html
        self._lines = [0]
        for line in html.split("\n")[:-1]:
            self._lines.append(self._lines[-1] + len(line) + 1)
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._break(tag)
        if tag in _SILENT:
            self._silent.append(tag)
        if tag in _RAW:
            self.set_cdata_mode(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        self._break(tag)
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]

    def handle_data(self, data: str) -> None:
        begin, at = self._here, 0
        for reference in _REFERENCE.finditer(data) if self.cdata_elem == "textarea" else ():
            self._add_text(data[at : reference.start()], begin + at)
            at = reference.end()
            for character in unescape(reference[0]):
                self._add(character, begin + reference.start(), begin + at)
        self._add_text(data[at:], begin + at)

    def handle_entityref(self, name: str) -> None:
        self._add_reference(f"&{name}")

    def handle_charref(self, name: str) -> None:
        self._add_reference(f"&#{name}")

    @property
    def _here(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def _add_reference(self, written: str) -> None:
        begin = self._here
        end = begin + len(written)
        end += self._html[end : end + 1] == ";"
        for character in unescape(self._html[begin:end]):
            self._add(character, begin, end)

    def set_cdata_mode(self, elem: str, **options: bool) -> None:
        """Look for the end of an element where browsers do: it may hold what else it likes."""
        del options  # of newer Pythons, which know of references in some of them
        super().set_cdata_mode(elem)
        ends = r"\Z" if elem == _LAST else rf"</{elem}(?=[\t\n\r\f />])|\Z"
        self.interesting = re.compile(ends, re.IGNORECASE)

    def parse_endtag(self, i: int) -> int:
        """Read an end tag; -1 if it has no end."""
        if self.cdata_elem is None:
            return super().parse_endtag(i)
        end = self.rawdata.find(">", i) + 1
        if end:
            self.handle_endtag(self.cdata_elem)
            self.clear_cdata_mode()
        return end or -1

    def parse_comment(self, i: int, report: bool = True) -> int:
        """Find the end of a comment where browsers do; -1 if there is none."""
        del report
        # Also of <!--> and <!--->, whose dashes are both.
        ends = [(self.rawdata.find("-->", i + 2), 3), (self.rawdata.find("--!>", i + 4), 4)]
        return min((place + size for place, size in ends if place >= 0), default=-1)

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Find the end of ``<![CDATA[`` where browsers do: at the first bracket that closes."""
        del report
        return self.rawdata.find(">", i) + 1 or -1

    def _add_text(self, text: str, begin: int) -> None:
        for i, character in enumerate(text):
            self._add(character, begin + i, begin + i + 1)

    def _add(self, character: str, begin: int, end: int) -> None:
        if not self._silent:
            self.characters.append(character)
            self.places.append((begin, end))

    def _break(self, tag: str) -> None:
        if tag in _BREAKS and self.characters and self.characters[-1] != "\n":
            self._add("\n", self._here, self._here + 1)
