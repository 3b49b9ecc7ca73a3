"""Classifier folders: ``classifier.skops``, ``card.json``, ``README.md``. No pickle, ever."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from dataclasses import replace
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from splinellm.errors import LATER, ArtifactError, ClassifierNotFoundError, OutputError
from splinellm.learn.card import Card
from splinellm.learn.classifier import Classifier
from splinellm.learn.readme import readme_of
from splinellm.table import schema_of

ClassifierT = TypeVar("ClassifierT", bound=Classifier)

ESTIMATORS_FILE = "classifier.skops"
CARD_FILE = "card.json"
README_FILE = "README.md"

TRUSTED_TYPES = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "sklearn._loss._loss.CyHalfMultinomialLoss",
    "sklearn.tree._tree.Tree",
    "splinellm.learn.estimators.SelfTrained",
    "splinellm.learn.lexicon.Lexicon",
    "splinellm.learn.marker.Marker",
    "splinellm.learn.pooled_scorer.PooledScorer",
)
"""What a file may hold beyond skops' own defaults; a file's own list is never believed."""

_TORCH_COMPAT = "sklearn.externals.array_api_compat.torch"

MAX_FILE_BYTES = 256 << 20
MAX_MEMBERS = 50_000
MAX_UNPACKED_BYTES = 1 << 30
MAX_CARD_BYTES = 4 << 20

BOXED_FOLDER = Path(__file__).parent.parent / "classifiers"


def save_classifier(classifier: ClassifierT, folder: str | PathLike[str]) -> ClassifierT:
    """Write a classifier folder.

    Parameters
    ----------
    classifier : Classifier
        Trained.
    folder : path
        Made if it is not there; only this function's three files in it are replaced.

    Returns
    -------
    Classifier
        With the file's hash in its card.
    """
    target = Path(folder)
    data: bytes = _skops().dumps(classifier.estimators)
    _require_trusted(data)
    name = target.resolve().name or classifier.card.name
    card = replace(classifier.card, name=name, classifier_sha256=hashlib.sha256(data).hexdigest())
    files = {
        ESTIMATORS_FILE: data,
        CARD_FILE: card.to_json().encode(),
        README_FILE: readme_of(card).encode(),
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            partial = target / f"{name}.partial"
            partial.write_bytes(content)
            partial.replace(target / name)
    except OSError as error:
        raise OutputError(f"cannot write '{target}': {error.strerror or error}") from error
    return classifier.with_card(card)


def load_classifier(
    name: str | PathLike[str],
    *,
    model: str | None = None,
    device: str | int = "auto",
    chat_template: str | None = None,
) -> Classifier:
    """Load a classifier folder, or a boxed classifier by name; its model only when it is needed.

    A classifier goes by the name of its folder, whatever it was called when it was trained.

    Parameters
    ----------
    name : str or path
        A folder, or a name that :func:`boxed_names` lists.
    model, device
        Where the classifier's model is by now, and where it is to compute. Classifiers of one model
        share it.
    chat_template : str, optional
        Renders conversations, in place of the model's own: the one that it was trained with.

    Raises
    ------
    ClassifierNotFoundError
        There is neither.
    ArtifactError, TableFormatError
        The folder is damaged, foreign or of another version; the message says what is wrong.
    """
    folder = _folder_of(name)
    card = load_card(folder)
    data = _read(folder / ESTIMATORS_FILE, MAX_FILE_BYTES)
    _require_harmless(data)
    _require_trusted(data)
    found = hashlib.sha256(data).hexdigest()
    if found != card.classifier_sha256:
        raise ArtifactError(
            f"{ESTIMATORS_FILE} has sha256 {found[:16]}…, but the card says "
            f"{card.classifier_sha256[:16]}…"
        )
    try:
        estimators = _skops().loads(data, trusted=list(TRUSTED_TYPES))
    except Exception as error:  # whatever a damaged file makes skops raise
        raise ArtifactError(f"{ESTIMATORS_FILE} cannot be read: {error}") from error
    if card.pooling is not None:
        from splinellm.learn.pooled import Pooled  # upward: what it is made of, it loads
        from splinellm.learn.pooled_scorer import require_pooled_fit

        require_pooled_fit(estimators, card, len(schema_of(card.provenance).names))
        return Pooled(estimators, card, model=model, device=device, chat_template=chat_template)
    _require_fit(estimators, card)
    return Classifier(estimators, card, model=model, device=device, chat_template=chat_template)


def load_card(name: str | PathLike[str]) -> Card:
    """Read a classifier's card alone; see :func:`load_classifier`."""
    folder = _folder_of(name)
    card = Card.from_json(_read(folder / CARD_FILE, MAX_CARD_BYTES))
    return replace(card, name=folder.resolve().name or card.name)


def _folder_of(name: str | PathLike[str]) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        boxed = boxed_names()
        if str(name) not in boxed:
            raise ClassifierNotFoundError(
                f"there is no classifier '{str(name)[:200]}'",
                hint=f"boxed: {', '.join(boxed) or 'none'}; or give a folder",
            )
        folder = BOXED_FOLDER / str(name)
    return folder


def as_classifier(classifier: Classifier | str | PathLike[str]) -> Classifier:
    """Load a classifier, if it is not one already; see :func:`load_classifier`."""
    if isinstance(classifier, Classifier):
        return classifier
    if isinstance(classifier, (str, PathLike)):
        return load_classifier(classifier)
    raise ArtifactError(
        f"expected a classifier, got {type(classifier).__name__}",
        hint="give what splinellm.load_classifier gives, or a name or folder",
    )


def boxed_names() -> list[str]:
    """Names of the classifiers that come with the library."""
    return sorted(path.parent.name for path in BOXED_FOLDER.glob(f"*/{CARD_FILE}"))


def _skops() -> Any:
    # skops imports every package of scikit-learn, one of which imports torch: two seconds that
    # classifying features must not cost. To an import, None stands for a module that is not there.
    if _TORCH_COMPAT in sys.modules:
        return import_module("skops.io")
    sys.modules[_TORCH_COMPAT] = None  # type: ignore[assignment]
    try:
        return import_module("skops.io")
    finally:
        sys.modules.pop(_TORCH_COMPAT, None)


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise ArtifactError(f"{path.name} is larger than {limit >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        is_foreign = isinstance(error, FileNotFoundError)
        raise ArtifactError(
            f"'{path}' cannot be read: {error.strerror or error}",
            hint="name the folder that splinellm train wrote" if is_foreign else None,
        ) from error


def _require_harmless(data: bytes) -> None:
    """Refuse what is no zip file, or one that would unpack to far more than it is."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise ArtifactError(
            f"{ESTIMATORS_FILE} is truncated or not a skops file: {error}"
        ) from error
    unpacked = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS or unpacked > MAX_UNPACKED_BYTES:
        raise ArtifactError(
            f"{ESTIMATORS_FILE} would unpack to {len(members)} files of {unpacked >> 20} MB"
        )


def _require_trusted(data: bytes) -> None:
    try:
        foreign = sorted(set(_skops().get_untrusted_types(data=data)) - set(TRUSTED_TYPES))
    except Exception as error:  # whatever a damaged file makes skops raise
        raise ArtifactError(f"{ESTIMATORS_FILE} is damaged: {error}") from error
    if foreign:
        raise ArtifactError(
            f"{ESTIMATORS_FILE} holds a type that is not trusted: {foreign[0]}",
            hint=LATER if foreign[0].startswith("splinellm.") else None,
        )


def _require_fit(estimators: Any, card: Card) -> None:
    expected = len(card.classes) if card.kind == "multilabel" else 1
    if not isinstance(estimators, list) or len(estimators) != expected:
        raise ArtifactError(f"{ESTIMATORS_FILE} does not hold {expected} estimators")
    n_features = len(schema_of(card.provenance).names)
    n_classes = 2 if card.kind == "multilabel" else len(card.classes)
    for estimator in estimators:
        if getattr(estimator, "n_features_in_", None) != n_features:
            raise ArtifactError(
                f"an estimator takes {getattr(estimator, 'n_features_in_', 'no')} features, "
                f"but the card names {n_features}"
            )
        if len(estimator.classes_) != n_classes:
            raise ArtifactError(f"an estimator has {len(estimator.classes_)} classes")
