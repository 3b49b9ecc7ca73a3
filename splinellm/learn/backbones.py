"""The models of this process, by name: estimators hold a name, never weights.

scikit-learn clones an estimator for every fold and pickles it for every worker. What is kept here
is shared by all clones of a process and is no part of any pickle.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING

from splinellm import parameters
from splinellm.errors import ConfigurationError

if TYPE_CHECKING:
    from splinellm.backbone.loading import Backbone
    from splinellm.extraction import SplineExtractor
    from splinellm.provenance import Provenance

_lock = RLock()
_loaded: dict[tuple[str, str, str], Backbone] = {}
_registered: dict[str, Backbone] = {}


def shared_backbone(model: str, dtype: str = "auto", device: str | int = "auto") -> Backbone:
    """Return this process's one copy of a model; load it if it is not there yet.

    Parameters
    ----------
    model : str
        A name given to :func:`register_backbone`, or whatever
        :func:`splinellm.backbone.loading.load_backbone` takes.
    dtype, device
        See :func:`splinellm.backbone.loading.load_backbone`.

    Returns
    -------
    Backbone

    Raises
    ------
    ConfigurationError
        The registered model has another dtype or is on another device.
    SplineLLMError
        The model cannot be loaded.
    """
    device = parameters.device_name(device)
    # Held while loading: of two threads that ask for a model at once, one waits for the other.
    with _lock:
        if model in _registered:
            return _checked(model, _registered[model], dtype, device)
        key = (model, dtype, device)
        if key not in _loaded:
            from splinellm.backbone.loading import load_backbone  # torch, only now

            _loaded[key] = load_backbone(model, dtype=dtype, device=device)
        return _loaded[key]


def shared_extractor(
    backbone: Backbone, source: Provenance, chat_template: str | None = None
) -> SplineExtractor:
    """An extractor of what `source` describes: making one costs as much as a short text's layer.

    Parameters
    ----------
    backbone : Backbone
        Keeps one for each settings, as long as it lives.
    source : Provenance
        Of the features that are wanted.
    chat_template : str, optional
        Renders conversations, in place of the model's own.

    Returns
    -------
    SplineExtractor
        The caller's own, see :meth:`splinellm.extraction.SplineExtractor.anew`.
    """
    from splinellm.extraction import SplineExtractor  # torch, only now
    from splinellm.extraction.chat import chat_template_of
    from splinellm.plan import Plan

    plan = Plan.of(source)
    key = plan, chat_template, chat_template_of(backbone.tokenizer)
    if key not in backbone.extractors:
        backbone.extractors[key] = SplineExtractor(
            backbone, **plan.settings(), chat_template=chat_template
        )
    made: SplineExtractor = backbone.extractors[key]
    return made.anew()


def register_backbone(name: str, backbone: Backbone) -> None:
    """Let estimators use a model that is in memory already.

    Parameters
    ----------
    name : str
        What to give as ``model``. It is looked up before files and the hub, and replaces what was
        registered under it before.
    backbone : Backbone
        Kept until :func:`release_backbones`. Other processes (``n_jobs``, or where a pickled
        pipeline is loaded) have to register it themselves.

    Examples
    --------
    >>> register_backbone("mine", Backbone(model, tokenizer, "mine"))  # doctest: +SKIP
    >>> SplineFeatures("mine").fit_transform(["The capital of France is"])  # doctest: +SKIP
    """
    with _lock:
        _registered[name] = backbone


def release_backbones(*names: str) -> None:
    """Forget models, and with that free their memory once nothing else uses them.

    Parameters
    ----------
    *names : str
        Names of models, loaded or registered; all of them if none is given.
    """
    with _lock:
        for name in names or {*_registered, *(key[0] for key in _loaded)}:
            _registered.pop(name, None)
            for key in [key for key in _loaded if key[0] == name]:
                del _loaded[key]


def _checked(name: str, backbone: Backbone, dtype: str, device: str) -> Backbone:
    there = backbone.device
    for option, wanted, has in (
        ("dtype", dtype, [backbone.dtype]),
        ("device", device, [str(there), there.type]),
    ):
        if wanted not in ("auto", *has):
            raise ConfigurationError(
                f"the registered model '{name[:80]}' has {option} {has[0]}, not {wanted[:80]}",
                hint=f"leave {option} at 'auto'",
            )
    return backbone
