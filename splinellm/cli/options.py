"""Options that several commands share: one spelling, one help text, one environment twin each."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from splinellm.cli import checks
from splinellm.io.formats import INPUT_FORMATS
from splinellm.schema import FEATURE_SETS

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Read when the libraries are imported, which no command has done when it reads its options."""


class Dtype(StrEnum):
    """Dtypes of the forward pass."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class OnError(StrEnum):
    """What happens at a bad row."""

    FAIL = "fail"
    SKIP = "skip"


class CsvTypes(StrEnum):
    """What becomes of CSV columns besides the texts."""

    AUTO = "auto"
    INFER = "infer"
    TEXT = "text"


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


def require_messages(count: Count, messages_column: str | None) -> None:
    """Refuse --count where there are no conversations."""
    if count is not Count.ALL and messages_column is None:
        raise typer.BadParameter("--count is for conversations, which --messages-column names")


def use_threads(n_threads: int | None) -> int | None:
    """Limit the threads of what computes: of torch, NumPy and scikit-learn, if not yet imported."""
    if n_threads is not None:
        for name in _THREADS:
            os.environ[name] = str(n_threads)
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(n_threads)
    return n_threads


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
        callback=checks.check_device,
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
        callback=checks.check_layers,
        help="Layers counted from 0, such as 0-2,29. All by default.",
    ),
]
Features = Annotated[
    str,
    typer.Option(
        "--features",
        envvar="SPLINELLM_FEATURES",
        metavar="LIST",
        callback=checks.check_features,
        help=f"Of {', '.join(FEATURE_SETS)}, and single names such as sign_mean.",
    ),
]
LearntFeatures = Annotated[
    str | None,
    typer.Option(
        "--features",
        envvar="SPLINELLM_FEATURES",
        metavar="LIST",
        callback=checks.check_features,
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
        callback=checks.read_template,
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
        callback=checks.check_input_format,
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
        callback=checks.check_delimiter,
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
        callback=checks.check_encoding,
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
        callback=checks.check_shard,
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
