"""Where a feature table comes from: everything that changes a number in it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from splinellm.conversations import Count
from splinellm.errors import LATER, TableFormatError
from splinellm.precision import PRECISIONS, Precision
from splinellm.schema import SCHEMA_VERSION, FeatureSchema, FeatureSelection, Granularity

_LIBRARIES = ("splinellm", "torch", "transformers", "tokenizers", "numpy")

FINGERPRINT_FIELDS = (
    "schema_version",
    "weights_sha256",
    "dtype",
    "granularity",
    "layers",
    "features",
    "n_blocks",
    "max_tokens",
    "dimension_rule",
    "dimension_threshold",
    "allow_special_tokens",
    "tokenizer_probe",
    "count",
)
"""Fields that must agree for two tables to be comparable; library versions may differ.

So must the chat templates, where both are known.
"""


def distance_precision(selection: FeatureSelection, dtype: str) -> str:
    """What distances of a forward pass in `dtype` are worth: ``full``, ``reduced`` or ``none``.

    See :class:`Provenance`.
    """
    if not selection.needs_distance:
        return "none"
    return "full" if dtype in ("float32", "float64") else "reduced"


def library_versions() -> dict[str, str]:
    """Versions of the libraries whose arithmetic or tokenisation enters the features."""
    return dict(_library_versions())


@cache  # reading package metadata takes milliseconds, and every extractor asks
def _library_versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a source tree that was never installed
            versions[name] = "unknown"
    return versions


@dataclass(frozen=True)
class Provenance:
    """The settings behind a feature table.

    Parameters
    ----------
    model : str
        Model spec as the user gave it.
    weights_sha256 : str
        Hash of the model's weights.
    architecture : str
        transformers' ``model_type``.
    n_layers : int
        Decoder layers of the whole model.
    dtype : str
        Dtype of the forward pass: ``float32``, ``bfloat16`` or ``float16``.
    attention : str
        Attention implementation behind the forward pass.
    layers : tuple of int
        Layers in the table.
    features : tuple of str
        Features of each layer.
    n_blocks : int
        Sign blocks per layer.
    max_tokens : int
        Prompts are cut to this many tokens.
    dimension_rule, dimension_threshold : str, float
        See :class:`splinellm.geometry.DimensionRule`.
    allow_special_tokens : bool
        Whether special-token strings in a prompt became control tokens.
    tokenizer_probe : tuple of int
        Token ids of a fixed probe string, to notice a tokenizer that changed.
    distance_precision : {"full", "reduced", "none"}
        ``reduced`` marks distances from a half-precision forward pass, which are mostly rounding
        noise; ``none``: no distance feature is in the table.
    granularity : {"prompt", "prefix", "token"}
        What a row stands for.
    count : str
        Tokens of a conversation that the statistics are over; see
        :data:`splinellm.conversations.Count`.
    chat_template_sha256 : str
        Hash of the template that renders conversations; empty if there is none, and of tables of
        texts alone, which none renders.
    precision : {"float32", "float16", "uint8"}
        What the numbers were rounded to; see :mod:`splinellm.precision`.
    schema_version : int
        Version of the column grammar.
    libraries : dict of str to str
        Library versions.
    """

    model: str
    weights_sha256: str
    architecture: str
    n_layers: int
    dtype: str
    attention: str
    layers: tuple[int, ...]
    features: tuple[str, ...]
    n_blocks: int
    max_tokens: int
    dimension_rule: str
    dimension_threshold: float
    allow_special_tokens: bool
    tokenizer_probe: tuple[int, ...]
    distance_precision: str
    granularity: Granularity = "prompt"
    schema_version: int = SCHEMA_VERSION
    libraries: dict[str, str] = field(default_factory=library_versions)
    count: Count = "all"
    chat_template_sha256: str = ""
    precision: Precision = "float32"

    def to_json(self) -> str:
        """Serialise to one line of ASCII JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Provenance:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        TableFormatError
            The text is not a provenance record of this schema version.
        """
        try:
            record: dict[str, Any] = json.loads(text)
            version = record["schema_version"]
            if version != SCHEMA_VERSION:
                raise TableFormatError(
                    f"schema version {version} is not {SCHEMA_VERSION}, this library's",
                    hint=f"extract the features again; {LATER}",
                )
            if more := sorted(set(record) - {field.name for field in dataclasses.fields(cls)}):
                raise TableFormatError(
                    f"the provenance record is unreadable: it holds something else: {more[0][:40]}",
                    hint=LATER,
                )
            for name in ("layers", "features", "tokenizer_probe"):
                record[name] = tuple(record[name])
            precision = record.get("precision", "float32")
            if precision not in PRECISIONS:
                raise TableFormatError(f"precision '{_short(precision)}' is unknown")
            return cls(**record)
        except (ValueError, TypeError, KeyError) as error:
            raise TableFormatError(f"the provenance record is unreadable: {error}") from error

    def at(self, granularity: Granularity) -> Provenance:
        """The same of rows of another kind.

        Raises
        ------
        SchemaError
            There is no such granularity.
        """
        features = self.schema.at(granularity).features
        if granularity not in self._at:
            self._at[granularity] = dataclasses.replace(
                self, features=features, granularity=granularity
            )
        return self._at[granularity]

    def narrowed(
        self, layers: Iterable[int] | None = None, features: Iterable[str] | None = None
    ) -> Provenance:
        """The same of some of its layers and features; all by default.

        Features come in the order that they have here, those that are not here not at all.
        """
        wanted = set(self.features if features is None else features)
        kept = tuple(name for name in self.features if name in wanted)
        has_distance = FeatureSelection(kept, self.n_blocks).needs_distance
        return dataclasses.replace(
            self,
            layers=self.layers if layers is None else tuple(sorted(set(layers))),
            features=kept,
            distance_precision=self.distance_precision if has_distance else "none",
        )

    @cached_property
    def schema(self) -> FeatureSchema:
        """Names and order of the columns."""
        selection = FeatureSelection(self.features, self.n_blocks)
        return FeatureSchema(self.layers, selection, self.n_layers, self.granularity)

    @cached_property
    def of_texts(self) -> Provenance:
        """The same of texts alone: no chat template has a part in their numbers."""
        if not self.chat_template_sha256:
            return self
        return dataclasses.replace(self, chat_template_sha256="")

    def joined(self, other: Provenance) -> Provenance:
        """The same of a table's rows and of another's: of these, too, the chat template is known.

        Whether the tables are comparable, :meth:`first_difference` says.
        """
        if self.chat_template_sha256 or not other.chat_template_sha256:
            return self
        return dataclasses.replace(self, chat_template_sha256=other.chat_template_sha256)

    @cached_property
    def _at(self) -> dict[Granularity, Provenance]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """What it was made of, without what was made of it."""
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}

    def require_prompts(self, name: str) -> None:
        """Refuse rows that stand for tokens or prefixes, where only prompts have a meaning.

        Parameters
        ----------
        name : str
            Of the table, for the message.

        Raises
        ------
        TableFormatError
            The rows do not stand for prompts.
        """
        if self.granularity != "prompt":
            raise TableFormatError(
                f"{name} has a row per {self.granularity}, not one per prompt",
                hint="extract with granularity prompt",
            )

    def first_difference(self, other: Provenance, *, within: bool = False) -> str | None:
        """Name the first fingerprint field in which `other` differs, with both values.

        Parameters
        ----------
        other : Provenance
            Of another table.
        within : bool
            Whether both are to be parts of one table, which has one precision. Otherwise rounded
            numbers are comparable with exact ones.

        Returns
        -------
        str or None
            For example ``"dtype is bfloat16, not float32"``; None if the tables are comparable.
        """
        for name in (*FINGERPRINT_FIELDS, *(("precision",) if within else ())):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} is {_short(theirs)}, not {_short(mine)}"
        templates = self.chat_template_sha256, other.chat_template_sha256
        if all(templates) and templates[0] != templates[1]:
            return f"chat_template_sha256 is {templates[1]}, not {templates[0]}"
        return None


def sidecar(path: str | PathLike[str]) -> Path:
    """Where the provenance of a CSV or JSONL file is kept: formats without room for it."""
    return Path(fspath(path) + ".provenance.json")


def read_sidecar(path: str | PathLike[str]) -> Provenance:
    """Read the provenance beside the data file `path`.

    Raises
    ------
    TableFormatError
        There is none, or it is unreadable.
    """
    try:
        return Provenance.from_json(sidecar(path).read_bytes())
    except FileNotFoundError as error:
        raise TableFormatError(
            f"'{path}' has no provenance file beside it",
            hint=f"of texts, run splinellm extract on it first; beside features of extract is "
            f"{sidecar(path).name}, and Parquet keeps the provenance inside",
        ) from error


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
