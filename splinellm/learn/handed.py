"""What somebody hands to a classifier: texts, or features of them in any container."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from splinellm.errors import ArtifactError, TableFormatError
from splinellm.provenance import Provenance
from splinellm.schema import is_feature_column
from splinellm.table import N_TOKENS, PROVENANCE_KEY, TRUNCATED, FeatureTable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

WANTED = "give texts, or a FeatureTable of the classifier's default_extractor()"
UP_TO_THE_CALLER = (
    "weights_sha256",
    "dtype",
    "max_tokens",
    "allow_special_tokens",
    "tokenizer_probe",
)
"""What nobody can compare: the weights and the tokenizer of a live model are its user's."""
_TEMPLATE = "chat_template_sha256"
_FRAME_KEY = "splinellm.provenance"


def is_features(given: Any) -> bool:
    """Whether something is features rather than texts or token ids."""
    if isinstance(given, FeatureTable):
        return True
    if isinstance(given, np.ndarray):
        return given.ndim == 2 and given.dtype.kind == "f"
    return any(map(is_feature_column, _names(given)))


def provenance_of(given: Any) -> Provenance | None:
    """What features come from, as far as their container tells."""
    if isinstance(given, FeatureTable):
        return given.provenance
    if isinstance(given, pa.Table):
        record = (given.schema.metadata or {}).get(PROVENANCE_KEY)
    else:
        record = getattr(given, "attrs", {}).get(_FRAME_KEY)
    return None if record is None else Provenance.from_json(record)


def require_match(
    trained: Provenance,
    given: Provenance,
    *,
    ignoring: Collection[str] = (),
    of_texts: bool = False,
    hint: str = "extract them with the settings in its card.json, or give it the texts",
) -> None:
    """Refuse features that are not those a classifier was trained on.

    More layers or features than needed are fine: the needed columns are the same numbers.

    Parameters
    ----------
    trained, given : Provenance
        Of the features that the classifier learned from, and of those that it is to judge.
    ignoring : collection of str
        Fields that the caller answers for, such as the hash of weights that nobody has hashed.
    of_texts : bool
        Whether texts alone are judged: which template there is for conversations is all the same.
    hint : str
        How whoever hands the features over gets the right ones.

    Raises
    ------
    ArtifactError
        Names the first difference.
    """
    known = {name: getattr(trained, name) for name in ignoring}
    # Who pools scores of tokens reads what is said, as texts.
    if of_texts or trained.granularity == "token":
        known[_TEMPLATE] = trained.chat_template_sha256
    for name in ("layers", "features"):
        wanted, there = getattr(trained, name), getattr(given, name)
        if wanted != there and set(wanted) <= set(there):
            known[name] = wanted
    given = replace(given, **known) if known else given
    if difference := trained.first_difference(given):
        if difference.startswith(_TEMPLATE):
            hint = (
                "give the one it was trained with: chat_template of load_classifier, of "
                "PredictBatch or of the service, or --chat-template FILE"
            )
        raise ArtifactError(f"the features do not match the classifier: {difference}", hint=hint)


def as_table(given: Any) -> FeatureTable:
    """Read a whole table of whatever container.

    Raises
    ------
    ArtifactError
        It is none.
    TableFormatError
        It is incomplete, or does not say what its numbers are.
    """
    if isinstance(given, FeatureTable):
        return given
    if isinstance(given, pa.Table):
        return FeatureTable.from_arrow(given)
    if _names(given):
        return FeatureTable.from_pandas(given)
    raise ArtifactError(f"expected a FeatureTable, got {type(given).__name__}", hint=WANTED)


def values_of(given: Any, names: Sequence[str]) -> np.ndarray:
    """Select columns by name, or take an array that has as many.

    Parameters
    ----------
    given : ndarray, DataFrame or Arrow table
        Features.
    names : sequence of str
        Columns that are wanted.

    Returns
    -------
    ndarray, shape (N, len(names)), float32

    Raises
    ------
    ArtifactError
        One is not there, or the array has another width.
    TableFormatError
        A value is missing, not finite, or no number.
    """
    if isinstance(given, np.ndarray):
        if given.shape[1] != len(names):
            raise ArtifactError(
                f"the array has {given.shape[1]} columns, but the classifier reads {len(names)} "
                "features",
                hint=WANTED,
            )
        columns: Any = given
    else:
        present = set(_names(given))
        if missing := next((name for name in names if name not in present), None):
            raise ArtifactError(f"the table has no column '{missing}'", hint=WANTED)
        arrow = given.select(list(names)).to_pandas() if isinstance(given, pa.Table) else given
        columns = arrow[list(names)].to_numpy()
    try:
        values = np.asarray(columns, np.float32)
    except (TypeError, ValueError) as error:
        raise TableFormatError(f"a feature is no number: {error}") from None
    if not np.isfinite(values).all():
        raise TableFormatError("the table has values that are missing or not finite")
    return values


def extent_of(given: Any) -> dict[str, np.ndarray]:
    """How much of each prompt was read, where the container says it."""
    if isinstance(given, FeatureTable):
        return {N_TOKENS: given.n_tokens, TRUNCATED: given.truncated}
    return {
        name: np.asarray(given[name]) for name in (N_TOKENS, TRUNCATED) if name in _names(given)
    }


def _names(given: Any) -> list[str]:
    """Column names of a DataFrame or an Arrow table; none of anything else."""
    if isinstance(given, pa.Table):
        return list(given.column_names)
    # A DataFrame, without importing pandas.
    if hasattr(type(given), "columns") and hasattr(type(given), "iloc"):
        return [name for name in given.columns if isinstance(name, str)]
    return []
