"""Rows of a batch annotated: plain callables, which carry settings and never a model.

A model is loaded where and when the first batch arrives, once for each process and setting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from os import PathLike
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from splinellm.conversations import Count, require_count
from splinellm.errors import ConfigurationError, RowError
from splinellm.io.checks import check_text
from splinellm.io.pipeline import problem_of, row_error
from splinellm.io.rows import Problem, ReadOptions, RecordChunk, Row
from splinellm.ray.containers import (
    is_column,
    names_of,
    plain,
    records_like,
    values_of,
    with_columns,
)
from splinellm.ray.filling import ERROR, filled, filled_schema
from splinellm.schema import FeatureSelection, Layers, feature_items, kept_layers, parse_layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from splinellm.extraction.windows import Overflow
    from splinellm.io.pipeline import Annotator
    from splinellm.io.rows import Chunk

__all__ = ["ERROR", "ON_ERROR", "PredictBatch", "SplineBatch"]

ON_ERROR = ("null", "raise")
_MANY_LAYERS = 10_000  # which exist is known where the model is

_loaded: dict[str, Annotator[Chunk]] = {}
_lock = RLock()


class _Batch(ABC):
    """Adds columns to the rows of a batch.

    Parameters
    ----------
    text_column : str
        Column of the texts.
    messages_column : str, optional
        Column of conversations, in place of texts.
    on_error : {"null", "raise"}
        What becomes of rows that cannot be read.
    """

    def __init__(
        self, text_column: str, messages_column: str | None, on_error: Literal["null", "raise"]
    ) -> None:
        if on_error not in ON_ERROR:
            raise ConfigurationError(
                f"on_error is '{on_error}'", hint=f"it is one of {', '.join(ON_ERROR)}"
            )
        self.text_column = text_column
        self.messages_column = messages_column
        self.on_error = on_error

    @abstractmethod
    def _load(self) -> Annotator[Chunk]:
        """Load what computes the columns."""

    @property
    def _key(self) -> str:
        """What tells annotators apart: everything but which column they read."""
        ours = ("text_column", "messages_column", "on_error")
        told = {name: value for name, value in vars(self).items() if name not in ours}
        return f"{type(self).__name__} {self.messages_column is not None} {told}"

    @property
    def _column(self) -> str:
        return self.text_column if self.messages_column is None else self.messages_column

    @property
    def schema(self) -> pa.Schema:
        """The columns that are added, with what they come from in the metadata; loads the model."""
        return filled_schema(self._annotator().schema, tells_errors=self.on_error == "null")

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({told})"

    def __call__(self, batch: Any) -> Any:
        """Return the batch with more columns, in the kind that it came in.

        Parameters
        ----------
        batch : pa.Table, pa.RecordBatch, pandas.DataFrame, or dict of lists or arrays
            With the column of prompts, and any others. Or that column alone, of Arrow, pandas or
            Daft: then the answer is a column of records.

        Raises
        ------
        ConfigurationError
            It is no batch, has no such column, or one of a name that is added.
        RowError
            A row cannot be read, and `on_error` is ``raise``.
        """
        if is_column(batch):
            return self._of_column(batch)
        values = values_of(batch, self._column)
        added = self._filled(*self._annotated(values), len(values))
        taken = set(names_of(batch))
        if name := next((name for name in added.column_names if name in taken), None):
            raise ConfigurationError(
                f"the batch already has a column '{name}', which is added", hint="rename it"
            )
        return with_columns(batch, added)

    def annotate(self, table: pa.Table) -> tuple[pa.Table, dict[int, Problem]]:
        """Added columns of the rows that can be read, and what is wrong with the others.

        Parameters
        ----------
        table : pa.Table
            With the column of prompts.

        Returns
        -------
        tuple of pa.Table and dict of int to Problem
            Columns without nulls of the good rows, in order; the bad rows by position.
        """
        return self._annotated(values_of(table, self._column))

    def _annotator(self) -> Annotator[Chunk]:
        with _lock:
            key = self._key
            if key not in _loaded:
                _loaded[key] = self._load()
            return _loaded[key]

    def _annotated(self, values: Sequence[Any]) -> tuple[pa.Table, dict[int, Problem]]:
        column = self._column
        options = ReadOptions(column, holds_messages=self.messages_column is not None)
        rows = [
            Row(number, {column: value}, problem=check_text({column: value}, options))
            for number, value in enumerate(values, 1)
        ]
        chunk = RecordChunk("batch", rows, column)
        problems = dict(chunk.problems)
        good = [place for place in range(len(chunk)) if place not in problems]
        with _lock:  # a model reads for one thread at a time
            table, failed = self._annotator().annotate(chunk.take(good))
        problems |= {good[place]: problem_of(error) for place, error in failed.items()}
        if problems and self.on_error == "raise":
            first = min(problems)
            raise _bad_row(chunk, first, problems[first])
        return table, problems

    def _filled(self, table: pa.Table, problems: dict[int, Problem], n_rows: int) -> pa.Table:
        return filled(table, problems, n_rows, tells_errors=self.on_error == "null")

    def _of_column(self, column: Any) -> Any:
        values = plain(column)
        added = self._filled(*self._annotated(values), len(values))
        return records_like(column, added)


class SplineBatch(_Batch):
    """Adds ``n_tokens``, ``truncated`` and the features of a text to every row of a batch.

    It works unchanged in Ray Data's ``map_batches``, in ``datasets.Dataset.map(batched=True)`` and
    in Daft's batch functions, and by itself. The values are those of
    :meth:`splinellm.SplineExtractor.extract` on the texts of the batch.

    Parameters
    ----------
    model : str
        See :meth:`splinellm.SplineExtractor.from_pretrained`, as all that is not named here.
    text_column : str
        Column of the texts.
    messages_column : str, optional
        Column of conversations, in place of texts: lists of messages, or the JSON of such.
    layout : {"columns", "list"}
        A column for each layer and feature, or one of lists for each feature.
    on_error : {"null", "raise"}
        What becomes of a row whose prompt is missing, empty, no text, or too much for the model.
        ``null``: it stays, with 0 tokens, nulls (outside Arrow NaN) for features, and the reason in
        the column ``error``, which is empty in good rows. ``raise``: a
        :class:`splinellm.errors.RowError`, with nothing computed for the whole batch.
    dtype, device, device_map, layers, features, max_tokens, batch_tokens, dimension_rule, \
dimension_threshold, allow_special_tokens, count, chat_template
        See :class:`splinellm.SplineExtractor`.

    Raises
    ------
    ConfigurationError, SchemaError
        A setting cannot work.

    Examples
    --------
    >>> batch = SplineBatch("smollm2-135m", layers="0-5", features="blocks")
    >>> batch({"text": ["Have a nice day"], "id": [1]})  # doctest: +SKIP
    >>> ray.data.read_parquet("texts/").map_batches(
    ...     SplineBatch,
    ...     fn_constructor_kwargs={"layers": "0-5"},
    ...     batch_format="pyarrow",
    ...     num_cpus=0.5,
    ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str = "smollm2-135m",
        *,
        text_column: str = "text",
        messages_column: str | None = None,
        layers: Layers = None,
        features: str | Iterable[str] = "paper",
        layout: Literal["columns", "list"] = "columns",
        on_error: Literal["null", "raise"] = "null",
        dtype: str = "auto",
        device: str | int = "auto",
        device_map: str | None = None,
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        dimension_rule: Literal["relative", "absolute"] = "relative",
        dimension_threshold: float = 0.1,
        allow_special_tokens: bool = False,
        count: Count = "all",
        chat_template: str | None = None,
    ) -> None:
        super().__init__(text_column, messages_column, on_error)
        if layout not in ("columns", "list"):
            raise ConfigurationError(f"layout is '{layout}'", hint="it is columns or list")
        self.layers = kept_layers(layers)
        parse_layers(self.layers, _MANY_LAYERS)
        _require_conversations(count, chat_template, messages_column)
        given = features if isinstance(features, str) else tuple(feature_items(features))
        FeatureSelection.parse(given)  # a typo must not cost the start of a cluster
        self.model = model
        self.features = given
        self.layout: Literal["columns", "list"] = layout
        self.settings: dict[str, Any] = {
            "dtype": dtype,
            "device": device,
            "device_map": device_map,
            "max_tokens": max_tokens,
            "batch_tokens": batch_tokens,
            "dimension_rule": dimension_rule,
            "dimension_threshold": dimension_threshold,
            "allow_special_tokens": allow_special_tokens,
            "count": count,
            "chat_template": chat_template,
        }

    def _load(self) -> Annotator[Chunk]:
        from splinellm.extraction import SplineExtractor  # torch, only where a batch is read
        from splinellm.io.features import FeatureAnnotator

        extractor = SplineExtractor.from_pretrained(
            self.model, layers=self.layers, features=self.features, **self.settings
        )
        return FeatureAnnotator(
            extractor, holds_messages=self.messages_column is not None, layout=self.layout
        )


class PredictBatch(_Batch):
    """Adds what a classifier says of a text to every row of a batch.

    The columns are those of ``splinellm predict``: ``n_tokens``, ``truncated``, ``predicted`` and
    ``probability.<class>``, or, where a text can have several labels, ``predicted.<label>`` and
    ``probability.<label>``. It works wherever :class:`SplineBatch` does.

    Parameters
    ----------
    classifier : str or path
        A folder, or the name of a boxed classifier.
    text_column, messages_column, on_error
        See :class:`SplineBatch`.
    spans : bool
        Whether to add ``spans``, where in the text a class is: ``begin`` and ``end`` in code
        points, ``label`` and ``score``. For classifiers that pool.
    overflow : {"windows", "error", "truncate"}
        A text beyond the classifier's token limit: read all of it in windows, refuse its row, or
        cut it.
    count : str
        What of conversations, to a classifier that pools; see
        :data:`splinellm.conversations.Count`.
    chat_template : str, optional
        Renders conversations, in place of the model's own: the one that the classifier was trained
        with. Who pools reads what is said, and needs none.
    model, device
        Where the classifier's model is by now, and where it is to compute.
    batch_tokens : int, optional
        Padded tokens of a batch of the model's.

    Raises
    ------
    ClassifierNotFoundError
        There is none of this name.
    ConfigurationError
        A setting cannot work, spans are wanted of a classifier that does not pool, or texts are to
        be read by one of conversations.
    ChatTemplateError
        The template cannot be parsed, or is not the one that the classifier was trained with.

    Examples
    --------
    >>> batch = PredictBatch("toxicity")
    >>> batch({"text": ["Have a nice day"]})["predicted"]  # doctest: +SKIP
    ['clean']
    """

    def __init__(
        self,
        classifier: str | PathLike[str],
        *,
        text_column: str = "text",
        messages_column: str | None = None,
        on_error: Literal["null", "raise"] = "null",
        spans: bool = False,
        overflow: Overflow = "windows",
        count: Count = "all",
        chat_template: str | None = None,
        model: str | None = None,
        device: str | int = "auto",
        batch_tokens: int | None = None,
    ) -> None:
        from splinellm.learn.artifact import load_card  # scikit-learn is slow to import

        super().__init__(text_column, messages_column, on_error)
        card = load_card(classifier)
        if spans and card.pooling is None:
            raise ConfigurationError(
                f"spans are for classifiers that pool; '{card.name}' is none",
                hint="train one with --pool",
            )
        _require_conversations(count, chat_template, messages_column)
        card.require_prompts(
            are_messages=messages_column is not None, count=count, chat_template=chat_template
        )
        # Absolute, for workers may run in another folder.
        is_folder = Path(classifier).is_dir()
        self.classifier = str(Path(classifier).absolute() if is_folder else classifier)
        self.spans = spans
        self.overflow: Overflow = overflow
        self.count: Count = count
        self.chat_template = chat_template
        self.model = model
        self.device = device
        self.batch_tokens = batch_tokens

    def _load(self) -> Annotator[Chunk]:
        from splinellm.learn.annotation import TextClassification
        from splinellm.learn.artifact import load_classifier

        found = load_classifier(
            self.classifier,
            model=self.model,
            device=self.device,
            chat_template=self.chat_template,
        )
        extractor = found.default_extractor()
        if self.batch_tokens is not None:
            extractor.batch_tokens = self.batch_tokens
        return TextClassification(
            found,
            extractor,
            holds_messages=self.messages_column is not None,
            spans=self.spans,
            overflow=self.overflow,
            count=self.count,
        )


def _require_conversations(
    count: Count, chat_template: str | None, messages_column: str | None
) -> None:
    """Refuse what is for conversations where rows hold texts, and a template that is none."""
    require_count(count)
    if count != "all" and messages_column is None:
        raise ConfigurationError(
            f"count '{count}' is for conversations, and the rows hold texts",
            hint="name the column of conversations: messages_column",
        )
    if chat_template is not None:
        from splinellm.extraction.chat import require_template  # only where there is one

        require_template(chat_template)


def _bad_row(chunk: RecordChunk, place: int, problem: Problem) -> RowError:
    error = row_error(chunk, place, problem)
    error.hint = "on_error='null' keeps such rows, with the reason in a column"
    return error
