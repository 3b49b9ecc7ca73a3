"""Options that several commands share: one spelling, one help text, one environment twin each."""

from __future__ import annotations

import os
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from splinellm.errors import SplineLLMError
from splinellm.io.encodings import check_encoding
from splinellm.io.formats import INPUT_FORMATS
from splinellm.schema import FEATURE_SETS, FeatureSelection, parse_layers

_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|"}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Read when the libraries are imported, which no command has done when it reads its options."""
_MANY_LAYERS = 10_000  # more than any model has; which layers exist is known once it is loaded


class Dtype(StrEnum):
    """Dtypes of the forward pass."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class DimensionRule(StrEnum):
    """When an attention weight counts towards the intrinsic dimension."""

    RELATIVE = "relative"
    ABSOLUTE = "absolute"


class OnError(StrEnum):
    """What happens at a bad row."""

    FAIL = "fail"
    SKIP = "skip"


class CsvTypes(StrEnum):
    """What becomes of CSV columns besides the texts."""

    AUTO = "auto"
    INFER = "infer"
    TEXT = "text"


class Layout(StrEnum):
    """How features are laid out; see :mod:`splinellm.layout`."""

    COLUMNS = "columns"
    LIST = "list"
    TENSOR = "tensor"


class Precision(StrEnum):
    """What features are rounded to; see :mod:`splinellm.precision`."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    UINT8 = "uint8"


class Granularity(StrEnum):
    """What a row of the output stands for."""

    PROMPT = "prompt"
    PREFIX = "prefix"
    TOKEN = "token"  # noqa: S105 (no secret)


class Count(StrEnum):
    """Tokens of a conversation that the statistics are over."""

    ALL = "all"
    CONTENT = "content"
    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    LAST = "last"


def column_names(columns: str | None) -> list[str] | None:
    """Split a list of column names; None is all."""
    if columns is None:
        return None
    return [name.strip() for name in columns.split(",") if name.strip()]


def _check_layers(layers: str | None) -> str | None:
    if layers is not None:
        try:
            parse_layers(layers, _MANY_LAYERS)
        except SplineLLMError as error:
            raise typer.BadParameter(str(error)) from error
    return layers


def _check_features(features: str | None) -> str | None:
    if features is not None:
        try:
            FeatureSelection.parse(features)
        except SplineLLMError as error:
            raise typer.BadParameter(str(error)) from error
    return features


def _check_input_format(name: str | None) -> str | None:
    if name is not None and name not in INPUT_FORMATS:
        raise typer.BadParameter(f"'{name}' is none of {', '.join(INPUT_FORMATS)}")
    return name


def _check_delimiter(delimiter: str | None) -> str | None:
    if delimiter is None:
        return None
    character = _DELIMITERS.get(delimiter.lower(), delimiter)
    if len(character) != 1 or character in '"\r\n':
        known = ", ".join(_DELIMITERS)
        raise typer.BadParameter(f"'{delimiter}' is no character, nor one of {known}")
    return character


def _check_encoding(name: str | None) -> str | None:
    if name is not None:
        try:
            check_encoding(name)
        except SplineLLMError as error:
            raise typer.BadParameter(str(error)) from error
    return name


def _check_shard(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"0*[1-9]\d*/0*[1-9]\d*", text.strip()):
        raise typer.BadParameter(f"'{text}' is no share: I/N, such as 2/8")
    return text


def _read_template(path: str | None) -> str | None:
    """The template in a file: nobody needs its name any more."""
    if path is None:
        return None
    try:
        template = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"'{path}' cannot be read") from error
    if not template.strip():
        raise typer.BadParameter(f"'{path}' is empty")
    return template


def require_messages(count: Count, messages_column: str | None) -> None:
    """Refuse --count where there are no conversations."""
    if count is not Count.ALL and messages_column is None:
        raise typer.BadParameter("--count is for conversations, which --messages-column names")


def _check_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise typer.BadParameter(f"'{device}' is none of auto, cpu, cuda, cuda:N, mps")
    return device


def use_threads(n_threads: int | None) -> int | None:
    """Limit the threads of what computes: of torch, NumPy and scikit-learn, if not yet imported."""
    if n_threads is not None:
        for name in _THREADS:
            os.environ[name] = str(n_threads)
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(n_threads)
    return n_threads


def _check_threshold(threshold: float) -> float:
    if not 0.0 < threshold < 1.0:
        raise typer.BadParameter(f"{threshold} is not between 0 and 1")
    return threshold


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


Model = Annotated[
    str,
    typer.Option(
        "--model",
        envvar="SPLINELLM_MODEL",
        metavar="NAME",
        help="Built-in model, Hugging Face id, local folder or .gguf file.",
    ),
]
DtypeOption = Annotated[
    Dtype,
    typer.Option(
        "--dtype",
        envvar="SPLINELLM_DTYPE",
        help="Of the forward pass. auto: float32 on a CPU, the checkpoint's on a GPU.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="SPLINELLM_DEVICE",
        metavar="auto|cpu|cuda|cuda:N|mps",
        callback=_check_device,
        help="Where the model runs.",
    ),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        "--device-map",
        envvar="SPLINELLM_DEVICE_MAP",
        metavar="MAP",
        help="Spread a large model over devices, as in transformers: auto, balanced, ...",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        envvar="SPLINELLM_THREADS",
        min=1,
        metavar="N",
        callback=use_threads,
        help="Of the forward pass; all cores by default. Processes that share cores must share "
        "them out: two with two threads each on two cores are five times slower than with one.",
        show_default=False,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        envvar="SPLINELLM_LAYERS",
        metavar="LIST",
        callback=_check_layers,
        help="Layers counted from 0, such as 0-2,29. All by default.",
    ),
]
Features = Annotated[
    str,
    typer.Option(
        "--features",
        envvar="SPLINELLM_FEATURES",
        metavar="LIST",
        callback=_check_features,
        help=f"Of {', '.join(FEATURE_SETS)}, and single names such as sign_mean.",
    ),
]
LearntFeatures = Annotated[
    str | None,
    typer.Option(
        "--features",
        envvar="SPLINELLM_FEATURES",
        metavar="LIST",
        callback=_check_features,
        help="As in extract. By default all that an extracted table has; of texts, blocks to "
        "train with and paper to evaluate.",
        show_default=False,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        envvar="SPLINELLM_MAX_TOKENS",
        min=1,
        metavar="N",
        help="Longer prompts are cut, and marked as truncated. 1024 by default.",
    ),
]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        "--batch-tokens",
        envvar="SPLINELLM_BATCH_TOKENS",
        min=1,
        metavar="N",
        help="Tokens of a batch, padding included. Chosen for the device by default.",
    ),
]
DimensionRuleOption = Annotated[
    DimensionRule,
    typer.Option(
        "--dimension-rule",
        envvar="SPLINELLM_DIMENSION_RULE",
        help="Intrinsic dimension: count attention above the threshold times the row's "
        "maximum, or above the threshold itself.",
    ),
]
DimensionThreshold = Annotated[
    float,
    typer.Option(
        "--dimension-threshold",
        envvar="SPLINELLM_DIMENSION_THRESHOLD",
        metavar="X",
        callback=_check_threshold,
        help="Between 0 and 1.",
    ),
]
AllowSpecialTokens = Annotated[
    bool,
    typer.Option(
        "--allow-special-tokens",
        envvar="SPLINELLM_ALLOW_SPECIAL_TOKENS",
        help="Read special-token strings in a text, such as <|im_start|>, as control tokens.",
    ),
]
GranularityOption = Annotated[
    Granularity,
    typer.Option(
        "--granularity",
        envvar="SPLINELLM_GRANULARITY",
        help="What a row stands for: a prompt; a token, with the features of the prompt up to it; "
        "or a token, with its own sign fraction, hyperplane distance and intrinsic dimension.",
    ),
]
LayoutOption = Annotated[
    Layout,
    typer.Option(
        "--layout",
        envvar="SPLINELLM_LAYOUT",
        help="A column for each layer and feature, such as layer_07.sign_mean; one of lists for "
        "each feature, by layer, in .parquet, .arrow and .jsonl; or, in .npz, one array by row, "
        "layer and feature.",
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        envvar="SPLINELLM_PRECISION",
        help="What features are rounded to in .parquet, .arrow and .npz: float16 for files of "
        "about half the size, uint8 to keep sign blocks in 255ths and the others as float16.",
    ),
]
TextColumn = Annotated[
    str,
    typer.Option(
        "--text-column",
        envvar="SPLINELLM_TEXT_COLUMN",
        metavar="NAME",
        help="Column or JSON key that holds the texts.",
    ),
]
MessagesColumn = Annotated[
    str | None,
    typer.Option(
        "--messages-column",
        envvar="SPLINELLM_MESSAGES_COLUMN",
        metavar="NAME",
        help="Column of conversations, in place of texts: lists of messages with role and "
        "content, or the JSON of such.",
        show_default=False,
    ),
]
CountOption = Annotated[
    Count,
    typer.Option(
        "--count",
        envvar="SPLINELLM_COUNT",
        help="Tokens of a conversation that the statistics are over: all, what the messages say, "
        "what one role says, or what the last message says. The model reads all.",
    ),
]
ChatTemplate = Annotated[
    str | None,
    typer.Option(
        "--chat-template",
        envvar="SPLINELLM_CHAT_TEMPLATE",
        metavar="FILE",
        callback=_read_template,
        help="Jinja template that renders conversations. The model's own by default.",
        show_default=False,
    ),
]
InputFormatOption = Annotated[
    str | None,
    typer.Option(
        "--input-format",
        envvar="SPLINELLM_INPUT_FORMAT",
        metavar="|".join(INPUT_FORMATS),
        callback=_check_input_format,
        help="Overrides the input's suffix.",
        show_default=False,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        envvar="SPLINELLM_COLUMNS",
        metavar="NAME[,NAME]",
        help="Input columns to keep besides the texts; the others are not even read. All by "
        "default.",
        show_default=False,
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        "--delimiter",
        envvar="SPLINELLM_DELIMITER",
        metavar="CHARACTER",
        callback=_check_delimiter,
        help="Between the values of .csv and .tsv, or comma, semicolon, tab, pipe. By default the "
        "suffix' own, or the only one with which the header has the text column.",
        show_default=False,
    ),
]
CsvTypesOption = Annotated[
    CsvTypes,
    typer.Option(
        "--csv-types",
        envvar="SPLINELLM_CSV_TYPES",
        help="Columns of .csv and .tsv besides the texts: infer makes them numbers and booleans "
        "where all of their values are, for which INPUT is read once more; text leaves them as "
        "they are written. auto: infer, but text where CSV is written, and from pipe to pipe.",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        "--encoding",
        envvar="SPLINELLM_ENCODING",
        metavar="NAME",
        callback=_check_encoding,
        help="Of text files, such as cp1252 or utf-16-le. By default UTF-8, or what a byte order "
        "mark tells.",
        show_default=False,
    ),
]
OnErrorOption = Annotated[
    OnError,
    typer.Option(
        "--on-error",
        envvar="SPLINELLM_ON_ERROR",
        help="At a bad row: stop, or note it in the rejects and go on.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        envvar="SPLINELLM_QUIET",
        help="No progress bar and no final count.",
    ),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        envvar="SPLINELLM_PREDICT_THRESHOLD",
        metavar="F|CLASS=F[,...]",
        help="Probability from which a class is said to be there, in this run: of all classes, or "
        "by class. That of the classifier's card by default.",
        show_default=False,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        envvar="SPLINELLM_RESUME",
        help="Go on with OUTPUT.partial of a run that did not end, if there is one. Input and "
        "options must be the same.",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        envvar="SPLINELLM_SHARD",
        metavar="I/N",
        callback=_check_shard,
        help="Do the I-th of N shares of INPUT, into the folder OUTPUT, which all of them make "
        "together.",
        show_default=False,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        envvar="SPLINELLM_FORCE",
        help="Replace an output that holds more rows, or other columns, than this run makes.",
    ),
]
