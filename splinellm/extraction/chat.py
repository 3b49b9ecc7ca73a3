"""Where messages become tokens: rendered with a chat template, once, and what is said stays text.

Rendering to a string and reading that would make control tokens of whatever a user writes. So every
content is rendered between two marks as well, which are characters that occur nowhere else: they
tell which parts of the string are contents. Special tokens are read outside of those alone. A
string that has none inside of them is read as transformers reads it, to the same ids.
"""

from __future__ import annotations

import copy
import hashlib
import re
import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from splinellm import parameters
from splinellm.conversations import Count, Message
from splinellm.errors import ChatTemplateError
from splinellm.token_index import NOWHERE

_PRIVATE = range(0xF0000, 0xFFFFE)
"""Characters that no standard gives a meaning, and no normaliser touches."""
_HINT = "give one: chat_template, or --chat-template FILE"


@dataclass(frozen=True)
class Place:
    """Where a token of a conversation comes from.

    Parameters
    ----------
    message : int
        From 0.
    begin, end : int
        In its text, in characters; -1 if the template has made something else of that.
    """

    message: int
    begin: int
    end: int


@dataclass(frozen=True)
class ReadChat:
    """Tokens of a conversation.

    Parameters
    ----------
    ids : list of int
        As the model reads them.
    places : list of Place or None
        Of every token; None for the template's own.
    """

    ids: list[int]
    places: list[Place | None]

    def counted(self, count: Count, messages: Sequence[Message]) -> tuple[bool, ...] | None:
        """Which tokens the statistics are over; None if all are."""
        if count == "all":
            return None
        last = len(messages) - 1

        def is_counted(place: Place | None) -> bool:
            if place is None:
                return False
            if count == "last":
                return place.message == last
            return count == "content" or messages[place.message].role == count

        return tuple(map(is_counted, self.places))


@dataclass(frozen=True)
class _Content:
    """A content, or what is left of it, in a rendered string: from `begin` to before `end`."""

    message: int
    begin: int
    end: int
    offset: int | None
    """Where in the message's text it begins; None if the template has made something else of it."""


class ChatReader:
    """Renders and tokenises conversations.

    Not for several threads at once: the tokenizer keeps how it treats special tokens in itself.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer.
    template : str, optional
        Jinja source; the tokenizer's own by default.
    allow_special_tokens : bool
        Whether special tokens that a content spells become control tokens.
    """

    def __init__(
        self, tokenizer: Any, template: str | None = None, *, allow_special_tokens: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self.template = chat_template_of(tokenizer) if template is None else template
        self._allow_special_tokens = allow_special_tokens

    def __call__(self, messages: Sequence[Message]) -> ReadChat:
        """Read a conversation.

        Raises
        ------
        ChatTemplateError
            There is no template, it cannot be parsed, it raises, or it leaves out or rewrites what
            is said.
        """
        text, contents = self._rendered(messages)
        if self._allow_special_tokens or not self._is_forged(text, contents):
            encoded = self._tokenizer(
                text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            ids, offsets = list(encoded["input_ids"]), list(encoded["offset_mapping"])
        else:
            ids, offsets = self._blind(text, contents)
        return ReadChat(ids, _places(offsets, contents))

    def _rendered(self, messages: Sequence[Message]) -> tuple[str, list[_Content]]:
        """The rendered string, and where in it the contents are."""
        said = [message.text for message in messages]
        plain = self._render(said, messages)
        taken = {*(self.template or ""), *plain}.union(*said)
        free = (mark for mark in map(chr, _PRIVATE) if mark not in taken)
        marks = [(next(free), next(free)) for _ in messages]
        all_marks = re.compile("[" + re.escape("".join(map("".join, marks))) + "]")
        # Templates often strip contents; marks inside of the white space let them.
        whole = [(0, len(text)) for text in said]
        for parts in (whole, [_stripped(text) for text in said]):
            marked = self._render(
                [
                    text[:begin] + mark[0] + text[begin:end] + mark[1] + text[end:]
                    for text, mark, (begin, end) in zip(said, marks, parts, strict=True)
                ],
                messages,
            )
            if all_marks.sub("", marked) == plain:
                return plain, _contents(marked, messages, marks, parts)
        raise ChatTemplateError(
            "the chat template rewrites what the messages say, so that their tokens cannot be told",
            hint=_HINT,
        )

    def _render(self, texts: Sequence[str], messages: Sequence[Message]) -> str:
        if not self.template:
            raise _no_template()
        chat = [
            {"role": message.role, "content": text}
            for message, text in zip(messages, texts, strict=True)
        ]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    chat, tokenize=False, chat_template=self.template
                )
            )
        except TemplateSyntaxError as error:
            raise _unparseable(error) from error
        except Exception as error:  # whatever a template does, and raises on purpose
            raise ChatTemplateError(_refusal(error, texts)) from error

    @cached_property
    def _special(self) -> dict[str, tuple[int, Any]]:
        """Special tokens by their text, longest first, with their ids."""
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        special = [(token.content, (number, token)) for number, token in added.items()]
        special = [it for it in special if it[0] and it[1][1].special]
        return dict(sorted(special, key=lambda it: (-len(it[0]), it[0])))

    def _is_forged(self, text: str, contents: Sequence[_Content]) -> bool:
        """Whether a special token is spelt where something of it is a content."""
        for name in self._special:
            begin = text.find(name)
            while begin >= 0:
                end = begin + len(name)
                if any(begin < it.end and it.begin < end for it in contents):
                    return True
                begin = text.find(name, begin + 1)
        return False

    @cached_property
    def _nonces(self) -> tuple[Backend, dict[str, str], dict[int, int]]:
        """A tokenizer that knows special tokens by secret names alone, the names, and the ids.

        With ``encode_special_tokens`` it reads special tokens as text; the same tokens under other
        names are not special to it, and so are still read as one each.
        """
        backend = copy.deepcopy(self._tokenizer.backend_tokenizer)
        backend.no_truncation()
        backend.no_padding()
        secret = secrets.token_hex(16)  # which nobody can write
        names = {name: f"\U000ffffd{secret}.{i}." for i, name in enumerate(self._special)}
        backend.add_tokens(
            [
                AddedToken(names[name], lstrip=token.lstrip, rstrip=token.rstrip, normalized=False)
                for name, (_, token) in self._special.items()
            ]
        )
        backend.encode_special_tokens = True
        ids = {
            backend.token_to_id(names[name]): number for name, (number, _) in self._special.items()
        }
        return backend, names, ids

    def _blind(
        self, text: str, contents: Sequence[_Content]
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and offsets of a string in whose contents special tokens are text."""
        backend, names, ids = self._nonces
        pattern = re.compile("|".join(map(re.escape, self._special)))
        pieces: list[str] = []
        where: list[int] = []  # of every character of the new string, and of its end
        at = 0
        for content in [*contents, _Content(-1, len(text), len(text), 0)]:
            for match in pattern.finditer(text, at, content.begin):
                pieces += [text[at : match.start()], names[match[0]]]
                where += range(at, match.start())
                where += [match.start()] * len(pieces[-1])
                at = match.end()
            pieces.append(text[at : content.end])
            where += range(at, content.end)
            at = content.end
        where.append(len(text))
        encoded = backend.encode("".join(pieces), add_special_tokens=False)
        offsets = [(where[begin], where[end]) for begin, end in encoded.offsets]
        return [ids.get(number, number) for number in encoded.ids], offsets


def _refusal(error: Exception, texts: Sequence[str]) -> str:
    """Say why a template raised, but for what it quotes of the messages."""
    reason = " ".join(str(error).split())[:200]
    if not reason or any(" ".join(text.split())[:20] in reason for text in texts):
        reason = type(error).__name__
    return f"the chat template refuses the conversation: {reason}"


def chat_template_of(tokenizer: Any) -> str | None:
    """The template that a tokenizer comes with."""
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    return template or None


class _Generation(Extension):
    """The tag that transformers has around what an assistant says."""

    tags = {"generation"}  # noqa: RUF012 (as in jinja2's own)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Read up to its end."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def require_template(template: str | None) -> None:
    """Refuse what no conversation at all can be rendered with.

    Raises
    ------
    ChatTemplateError
        There is no template, or it cannot be parsed; says where.
    ConfigurationError
        It is no text.
    """
    if template is None:
        raise _no_template()
    template = parameters.text(
        "chat_template", template, hint="give the template itself, as in path.read_text()"
    )
    if not template:
        raise _no_template()
    try:
        # Of the extensions that transformers renders with; nothing is rendered here.
        Environment(extensions=["jinja2.ext.loopcontrols", _Generation]).compile(template)  # noqa: S701
    except TemplateSyntaxError as error:
        raise _unparseable(error) from error


def _no_template() -> ChatTemplateError:
    return ChatTemplateError("the model has no chat template", hint=_HINT)


def _unparseable(error: TemplateSyntaxError) -> ChatTemplateError:
    reason = " ".join(str(error.message).split())[:200]
    return ChatTemplateError(
        f"the chat template refuses all conversations: line {error.lineno}: {reason}", hint=_HINT
    )


def template_sha256(template: str | None) -> str:
    """Hash of a template, for the provenance; empty if there is none."""
    return hashlib.sha256(template.encode("utf-8", "surrogatepass")).hexdigest() if template else ""


def _stripped(text: str) -> tuple[int, int]:
    """Where a text is without the white space around it."""
    begin = len(text) - len(text.lstrip())
    return begin, max(begin, len(text.rstrip()))


def _contents(
    marked: str,
    messages: Sequence[Message],
    marks: Sequence[tuple[str, str]],
    parts: Sequence[tuple[int, int]],
) -> list[_Content]:
    """Find the contents in a marked string; places are those in the string without marks.

    `parts` says which part of each text is between its marks.
    """
    owner = {mark: (i, side) for i, pair in enumerate(marks) for side, mark in enumerate(pair)}
    opened: dict[int, int] = {}
    plain: list[str] = []
    found: list[_Content] = []
    for character in marked:
        if character not in owner:
            plain.append(character)
            continue
        message, side = owner[character]
        at = len(plain)
        begin, end = parts[message]
        if side == 0:
            opened[message] = at
        elif message in opened:
            found.append(_Content(message, opened.pop(message), at, begin))
        else:  # its beginning was cut off, as some templates do with thoughts
            text, most = messages[message].text, min(end, at)
            differs = (n for n in range(most) if text[end - n - 1] != plain[at - n - 1])
            n_kept = len(text[end - next(differs, most) : end].lstrip())
            found.append(_Content(message, at - n_kept, at, end - n_kept))
    for place, it in enumerate(found):
        if it.offset is not None:
            text = messages[it.message].text[it.offset : it.offset + it.end - it.begin]
            if text != "".join(plain[it.begin : it.end]):
                found[place] = replace(it, offset=None)
    present = {content.message for content in found}
    if missing := [i for i in range(len(messages)) if i not in present]:
        raise ChatTemplateError(
            f"the chat template leaves out what messages[{missing[0]}] says", hint=_HINT
        )
    return sorted(found, key=lambda content: content.begin)


def _places(offsets: Sequence[tuple[int, int]], contents: Sequence[_Content]) -> list[Place | None]:
    """Where tokens come from, by where they are in the rendered string."""
    ends = [it.end for it in contents]
    places: list[Place | None] = []
    for begin, end in offsets:
        # White space may have been trimmed from a token's place, until nothing was left.
        is_empty = begin == end
        i = bisect_left(ends, begin) if is_empty else bisect_right(ends, begin)
        it = contents[i] if i < len(contents) else None
        if it is None or not (it.begin < begin if is_empty else it.begin < end):
            places.append(None)
            continue
        if it.offset is None:
            places.append(Place(it.message, NOWHERE, NOWHERE))
            continue
        start, stop = max(begin, it.begin), min(end, it.end)
        places.append(Place(it.message, it.offset + start - it.begin, it.offset + stop - it.begin))
    return places
