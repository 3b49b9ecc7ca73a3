"""What the texts of options must be: checks that Typer calls, and what is read of such texts."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from splinellm import conversations
from splinellm.errors import ConfigurationError, SplineLLMError
from splinellm.io import encodings
from splinellm.io.formats import INPUT_FORMATS
from splinellm.schema import FeatureSelection, parse_layers

_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|"}
_MANY_LAYERS = 10_000  # more than any model has; which layers exist is known once it is loaded


def check_device(device: str) -> str:
    """Refuse what names no device."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise typer.BadParameter(f"'{device}' is none of auto, cpu, cuda, cuda:N, mps")
    return device


def check_layers(layers: str | None) -> str | None:
    """Refuse what is no list of layers, whatever the model."""
    if layers is not None:
        try:
            parse_layers(layers, _MANY_LAYERS)
        except SplineLLMError as error:
            raise typer.BadParameter(str(error)) from error
    return layers


def check_features(features: str | None) -> str | None:
    """Refuse features that there are none of."""
    if features is not None:
        try:
            FeatureSelection.parse(features)
        except SplineLLMError as error:
            raise typer.BadParameter(str(error)) from error
    return features


def check_input_format(name: str | None) -> str | None:
    """Refuse a format that nothing reads."""
    if name is not None and name not in INPUT_FORMATS:
        raise typer.BadParameter(f"'{name}' is none of {', '.join(INPUT_FORMATS)}")
    return name


def check_delimiter(delimiter: str | None) -> str | None:
    """The character that a delimiter's name stands for, or that it is."""
    if delimiter is None:
        return None
    character = _DELIMITERS.get(delimiter.lower(), delimiter)
    if len(character) != 1 or character in '"\r\n':
        known = ", ".join(_DELIMITERS)
        raise typer.BadParameter(f"'{delimiter}' is no character, nor one of {known}")
    return character


def check_encoding(name: str | None) -> str | None:
    """Refuse an encoding that Python does not know."""
    if name is not None:
        try:
            encodings.check_encoding(name)
        except SplineLLMError as error:
            raise typer.BadParameter(str(error)) from error
    return name


def check_shard(text: str | None) -> str | None:
    """Refuse what is no share of a run."""
    if text is not None and not re.fullmatch(r"0*[1-9]\d*/0*[1-9]\d*", text.strip()):
        raise typer.BadParameter(f"'{text}' is no share: I/N, such as 2/8")
    return text


def read_template(path: str | None) -> str | None:
    """The template in a file: nobody needs its name any more."""
    if path is None:
        return None
    try:
        return conversations.read_template(Path(path))
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error


def thresholds_of(text: str | None) -> float | dict[str, float] | None:
    """Read thresholds: a number for all classes, or ``CLASS=0.8`` for some.

    A name may have a comma or an equals sign in it: what is read is ``=NUMBER`` at an item's end.
    """
    if text is None:
        return None
    found: dict[str, float] = {}
    waiting: list[str] = []
    for item in text.split(","):
        name, is_told, number = ",".join([*waiting, item]).rpartition("=")
        try:
            value = float(number)
        except ValueError:
            waiting.append(item)
            continue
        if not is_told and "," not in text:
            return value
        if not name.strip() or not is_told or name.strip() in found:
            break
        found[name.strip()] = value
        waiting = []
    else:
        if not waiting:
            return found
    raise typer.BadParameter(
        f"'{text[:80]}' is no threshold: give 0.8, or CLASS=0.8[,CLASS=0.6]",
        param_hint="--threshold",
    )
