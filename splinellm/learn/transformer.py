"""SplineFeatures: texts in, feature columns out, anywhere scikit-learn takes a transformer."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from splinellm.conversations import Count
from splinellm.errors import ConfigurationError
from splinellm.extraction.caching import CachedExtractor, shared_store
from splinellm.learn.backbones import shared_backbone
from splinellm.learn.inputs import listed, number, text, texts_of, whole
from splinellm.parameters import device_name, flag
from splinellm.schema import FeatureSchema, FeatureSelection
from splinellm.table import schema_of

if TYPE_CHECKING:
    from splinellm.extraction import SplineExtractor


class SplineFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Turn texts into the geometry of what a language model does when it reads them.

    The estimator holds settings, never weights. The model is loaded on first use and shared by all
    clones of a process (:mod:`splinellm.learn.backbones`); pickles and worker processes carry only
    its name. Fitting learns nothing from the texts.

    Parameters
    ----------
    model : str, default="smollm2-135m"
        A built-in model's name, a folder, a .gguf file, a Hugging Face id, or a name given to
        :func:`splinellm.learn.register_backbone`.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        ``auto`` is float32 on a CPU and the checkpoint's own dtype elsewhere.
    device : str, int or torch.device, default="auto"
        ``auto`` (CUDA, then MPS, then CPU) or a torch device; a number is that of a CUDA device.
    layers : str, collection of int, or None, default=None
        Decoder layers counted from 0, such as ``"0-2,29"``; None is all.
    features : str or collection of str, default="paper"
        ``paper``, ``spline``, ``blocks``, or names; see
        :meth:`splinellm.schema.FeatureSelection.parse`.
    max_tokens : int or None, default=None
        Texts are cut to this many tokens; 1024 or the model's limit, if that is less.
    batch_tokens : int or None, default=None
        Padded tokens of a batch; 512 on a CPU, 16384 elsewhere.
    dimension_rule : {"relative", "absolute"}, default="relative"
        When an attention weight counts; see :class:`splinellm.geometry.DimensionRule`.
    dimension_threshold : float, default=0.1
        As above.
    allow_special_tokens : bool, default=False
        Whether special-token strings in a text become control tokens.
    count : {"all", "content", "user", "assistant", "system", "last"}, default="all"
        Tokens of a conversation that the statistics are over; see
        :data:`splinellm.conversations.Count`.
    chat_template : str or None, default=None
        Jinja source that renders conversations; the model's own by default.
    cache : {"memory", "disk"} or None, default="memory"
        Where features are kept, so that folds and candidates of a search read each text once:
        in this process, up to 256 MB; in a file in ``SPLINELLM_CACHE``, for worker processes and
        later sessions too (hashes and features, no text); or nowhere.

    Attributes
    ----------
    provenance_ : Provenance
        Where the features come from, as of ``fit``. While the parameters stay as they were then,
        ``transform`` refuses a model, tokenizer or dtype that is another one by now.

    Notes
    -----
    With ``n_jobs``, each worker process loads the model and reads its own folds' texts. Transform
    all texts once with ``cache="disk"`` first, and the workers only look up.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> model = make_pipeline(SplineFeatures(), StandardScaler(), LogisticRegression())
    >>> model.fit(texts, labels).predict(["Have a nice day"])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str = "smollm2-135m",
        *,
        dtype: str = "auto",
        device: str | int = "auto",
        layers: str | Collection[int] | None = None,
        features: str | Collection[str] = "paper",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        dimension_rule: Literal["relative", "absolute"] = "relative",
        dimension_threshold: float = 0.1,
        allow_special_tokens: bool = False,
        cache: Literal["memory", "disk"] | None = "memory",
        count: Count = "all",
        chat_template: str | None = None,
    ) -> None:
        self.model = model
        self.dtype = dtype
        self.device = device
        self.layers = layers
        self.features = features
        self.max_tokens = max_tokens
        self.batch_tokens = batch_tokens
        self.dimension_rule = dimension_rule
        self.dimension_threshold = dimension_threshold
        self.allow_special_tokens = allow_special_tokens
        self.cache = cache
        self.count = count
        self.chat_template = chat_template

    def fit(self, X: Iterable[str], y: object = None) -> Self:  # noqa: ARG002, N803
        """Check the parameters and the texts, and note which model this is.

        Parameters
        ----------
        X : collection of str
            See :meth:`transform`.
        y : ignored

        Returns
        -------
        SplineFeatures
            Itself.

        Raises
        ------
        ConfigurationError, SchemaError
            A parameter has a value that cannot work.
        PromptError
            See :meth:`transform`.
        """
        texts_of(X)
        self.provenance_ = self._reader().provenance
        self._fitted_settings = self._settings()
        return self

    def transform(self, X: Iterable[str]) -> np.ndarray:  # noqa: N803
        """Compute the features of the texts; works without ``fit``, too.

        Parameters
        ----------
        X : list, array or Series of str, shape (N,), or array or DataFrame, shape (N, 1)
            The texts, or conversations in their place.

        Returns
        -------
        ndarray, shape (N, L * F), float32
            Columns as in :meth:`get_feature_names_out`; a DataFrame after ``set_output``.

        Raises
        ------
        PromptError
            `X` is no column of texts, or one of them cannot be read: names its position.
        ConfigurationError
            The model is not the one that the transformer was fitted with.
        """
        texts = texts_of(X)
        reader = self._reader()
        if self._is_as_fitted() and (
            difference := self.provenance_.first_difference(reader.provenance)
        ):
            raise ConfigurationError(
                f"the model is not what it was when this was fitted: {difference}",
                hint="fit again, or give the dtype and model of then",
            )
        return reader.extract(texts).values

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:  # noqa: ARG002
        """Names of the columns, as ``layer_07.sign_mean``.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str, shape (L * F,)
        """
        return np.array(self._schema().names, dtype=object)

    def _schema(self) -> FeatureSchema:
        # A fitted pipeline knows its columns without loading the weights.
        return schema_of(self.provenance_) if self._is_as_fitted() else self._reader().schema

    def _is_as_fitted(self) -> bool:
        return getattr(self, "_fitted_settings", None) == self._settings()

    def _reader(self) -> SplineExtractor | CachedExtractor:
        # Made anew each time, in milliseconds: one that is kept could differ from the parameters.
        from splinellm.extraction import SplineExtractor  # torch, only now

        settings = self._settings()
        store = None if self.cache is None else shared_store(self.cache)
        FeatureSelection.parse(settings["features"])  # a typo must not cost the loading of a model
        backbone = shared_backbone(*(settings.pop(name) for name in ("model", "dtype", "device")))
        extractor = SplineExtractor(backbone, **settings)
        return extractor if store is None else CachedExtractor(extractor, store)

    def _settings(self) -> dict[str, Any]:
        """Return the parameters but for the cache, checked, as plain Python values.

        A search sets NumPy scalars and arrays, which neither compare nor serialise like these.
        """
        return {
            "model": text("model", self.model),
            "dtype": text("dtype", self.dtype),
            "device": device_name(self.device),
            "layers": None if self.layers is None else listed("layers", self.layers),
            "features": listed("features", self.features),
            "max_tokens": whole("max_tokens", self.max_tokens),
            "batch_tokens": whole("batch_tokens", self.batch_tokens),
            "dimension_rule": text("dimension_rule", self.dimension_rule),
            "dimension_threshold": number("dimension_threshold", self.dimension_threshold),
            "allow_special_tokens": flag("allow_special_tokens", self.allow_special_tokens),
            "count": text("count", self.count),
            "chat_template": (
                None if self.chat_template is None else text("chat_template", self.chat_template)
            ),
        }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []  # float32, whatever comes in
        return tags
