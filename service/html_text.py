"""The text of HTML, and where in the HTML each of its characters comes from."""

from __future__ import annotations

from html import unescape
from html.parser import HTMLParser

_SILENT = frozenset(["script", "style", "template", "head", "title"])
"""Elements whose content nobody sees."""
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

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        self._break(tag)
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]

    def handle_data(self, data: str) -> None:
        begin = self._here
        for i, character in enumerate(data):
            self._add(character, begin + i, begin + i + 1)

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

    def _add(self, character: str, begin: int, end: int) -> None:
        if not self._silent:
            self.characters.append(character)
            self.places.append((begin, end))

    def _break(self, tag: str) -> None:
        if tag in _BREAKS and self.characters and self.characters[-1] != "\n":
            self._add("\n", self._here, self._here + 1)
