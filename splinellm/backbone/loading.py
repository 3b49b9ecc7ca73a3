"""From a model spec to a backbone: weights, tokenizer, architecture, device and dtype."""

from __future__ import annotations

import difflib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from splinellm.backbone.architectures import architecture_of
from splinellm.backbone.builtin import BUILTIN_MODELS, pull, require_available
from splinellm.backbone.conversion import checkpoint_folder, read_gguf
from splinellm.backbone.decoder import Decoder, decoder_inside
from splinellm.backbone.devices import require_device
from splinellm.backbone.fingerprint import files_sha256
from splinellm.backbone.folders import require_model, require_tokenizer
from splinellm.backbone.identity import Identity, evaluating
from splinellm.backbone.no_tokenizer import NoTokenizer
from splinellm.errors import (
    ConfigurationError,
    ModelLoadError,
    ModelNotFoundError,
    OfflineError,
    SplineLLMError,
)
from splinellm.files import file_sha256, is_offline
from splinellm.parameters import text
from splinellm.schema import Layers, parse_layers

_HUB_S = 10.0
"""So long the hub may take to say that there is a model."""
_logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

TOKENIZER_PROBE = "Café naïve 3.14\n\tdef f(x): return 'ÿ'  <|im_end|></s>[INST] 今天 😀"
"""Its token ids change with the vocabulary, the normaliser or the handling of special tokens."""


@dataclass
class Backbone(Decoder):
    """A decoder or encoder with its tokenizer, ready to be read, and what identifies it.

    Parameters
    ----------
    model : PreTrainedModel
        Base model; put into evaluation mode. A model with heads, or with adapters, compiled or
        other modules around it, stands for the base model inside of it.
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer.
    spec : str
        What the user asked for.
    weights_sha256 : str, optional
        Hash of the checkpoint; computed from the weights in memory when not given, and when they
        have changed since, see :meth:`look`.
    n_layers_of_checkpoint : int, optional
        Layers of the whole model, where only the first ones were loaded.

    Attributes
    ----------
    lock : Lock
        Held while somebody reads, see :meth:`reading`: one thread at a time owns the model.
    identity : Identity
        By what numbers of the model are found again.
    extractors : dict
        Kept by :func:`splinellm.learn.backbones.shared_extractor`.
    """

    tokenizer: Any
    spec: str
    weights_sha256: str = ""
    n_layers_of_checkpoint: int | None = None
    lock: Lock = field(init=False, default_factory=Lock, repr=False)
    identity: Identity = field(init=False, repr=False)
    extractors: dict[Any, Any] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.model, PreTrainedModel):
            architecture_of(self.model.config.model_type)  # which is named if it is unknown
        self.model = decoder_inside(self.model).model
        super().__post_init__()
        self.model.eval()
        self.identity = Identity(self.model, self.weights_sha256 or None)
        self.weights_sha256 = self.identity.sha256

    def look(self) -> None:
        """See whether weights, adapters or hooks have changed; not while somebody reads."""
        if self.lock.acquire(blocking=False):  # else whoever reads has looked
            try:
                self.identity.look()
                self.weights_sha256 = self.identity.sha256
            finally:
                self.lock.release()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Own the model for a while: in evaluation mode, and without gradients."""
        with self.lock, torch.inference_mode(), evaluating(self.model):
            yield

    @property
    def n_layers(self) -> int:
        """Number of layers of the whole model, loaded or not."""
        return self.n_layers_of_checkpoint or super().n_layers

    @cached_property
    def tokenizer_probe(self) -> tuple[int, ...]:
        """Token ids of a fixed string; none of a model that came without its tokenizer."""
        if isinstance(self.tokenizer, NoTokenizer):
            return ()
        return tuple(self.tokenizer(TOKENIZER_PROBE, split_special_tokens=True)["input_ids"])


def load_backbone(
    spec: str | os.PathLike[str],
    *,
    dtype: str = "auto",
    device: str | int | torch.device = "auto",
    device_map: str | None = None,
    layers: Layers = None,
) -> Backbone:
    """Load a model for reading.

    Parameters
    ----------
    spec : str or path
        A built-in model's name, a local folder in transformers' format, a .gguf file, or a Hugging
        Face id. Weights are read from safetensors or GGUF; no code from a checkpoint is run.
    dtype : {"auto", "float32", "bfloat16", "float16"}
        ``auto`` is float32 on a CPU and the checkpoint's own dtype elsewhere.
    device : str, int or torch.device
        ``auto`` (CUDA, then MPS, then CPU) or a torch device; a number is that of a CUDA device.
    device_map : str, optional
        For models that do not fit one device, as in transformers.
    layers : str, int, iterable of int, or None
        Layers that will be asked for: of a checkpoint, later ones are not loaded.

    Returns
    -------
    Backbone

    Raises
    ------
    ModelNotFoundError, OfflineError, ModelLoadError, IntegrityError, UnsupportedArchitectureError
        The model is not there, cannot be fetched, is damaged, or is of another kind.
    ConfigurationError
        The dtype or device is unknown or absent.
    """
    spec = text("model", os.fspath(spec) if isinstance(spec, os.PathLike) else spec)
    target = require_device(device)
    known = f"use auto, {', '.join(DTYPES)}"
    dtype = text("dtype", dtype, hint=known)
    if dtype != "auto" and dtype not in DTYPES:
        raise ConfigurationError(f"unknown dtype '{dtype[:80]}'", hint=known)
    wanted = DTYPES.get(dtype, torch.float32 if target.type == "cpu" else "auto")
    with _quiet_transformers(), _own_errors(spec):
        backbone = _load(spec, wanted, device_map, layers)
        if device_map is None:
            backbone.model.to(target)  # type: ignore[arg-type]  # transformers hides it
            backbone.identity.settle()
    return backbone


def require_loadable(spec: str, *, device: str | int | torch.device = "auto") -> None:
    """Refuse what :func:`load_backbone` refuses before it reads or fetches weights.

    Raises
    ------
    SplineLLMError
        See :func:`load_backbone`.
    """
    require_device(device)
    if spec in BUILTIN_MODELS:
        require_available(spec)
        return
    path = Path(spec).expanduser()
    with _quiet_transformers(), _own_errors(spec):
        _require_there(spec)
        if path.is_dir():
            _config_of(str(path))


@contextmanager
def _own_errors(spec: str) -> Iterator[None]:
    try:
        yield
    except SplineLLMError:
        raise
    except Exception as error:  # each library under transformers has errors of its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelLoadError(f"model '{spec[:200]}' cannot be loaded: {reason}") from error


def _load(
    spec: str,
    dtype: torch.dtype | str,
    device_map: str | None,
    layers: Layers,
) -> Backbone:
    path = Path(spec).expanduser()
    if spec in BUILTIN_MODELS:
        builtin = BUILTIN_MODELS[spec]
        folder = checkpoint_folder(pull(spec), builtin.sha256)
        return _load_checkpoint(
            str(folder), spec, dtype, device_map, layers, builtin.weights_sha256
        )
    _require_there(spec)
    if path.suffix == ".gguf":
        dense = torch.float32 if isinstance(dtype, str) else dtype
        model, tokenizer = read_gguf(path, dense)
        return Backbone(model, tokenizer, spec, file_sha256(path))
    source = str(path) if path.is_dir() else spec
    return _load_checkpoint(source, spec, dtype, device_map, layers)


def _require_there(spec: str) -> None:
    """Refuse a spec, of no built-in model, that names nothing."""
    path = Path(spec).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelNotFoundError(f"there is no file '{spec[:200]}'")
    elif path.is_dir():
        require_model(path)
    else:
        _require_on_hub(spec)


def _config_of(source: str) -> Any:
    """The configuration of a checkpoint, which is refused before gigabytes are fetched."""
    config = AutoConfig.from_pretrained(source, **_common(source))
    architecture_of(config.model_type)
    if Path(source).is_dir():
        require_tokenizer(Path(source))
    return config


def _common(source: str) -> dict[str, Any]:
    offline = is_offline() or Path(source).is_dir()
    return {"trust_remote_code": False, "local_files_only": offline}


def _load_checkpoint(
    source: str,
    spec: str,
    dtype: torch.dtype | str,
    device_map: str | None,
    layers: Layers,
    weights_sha256: str | None = None,
) -> Backbone:
    common = _common(source)
    config = _config_of(source)
    architecture = architecture_of(config.model_type)
    n_layers = _cut(config, layers)
    model, info = AutoModel.from_pretrained(
        source,
        config=config,
        dtype=dtype,
        attn_implementation=architecture.attention_implementation,
        use_safetensors=True,
        device_map=device_map,
        output_loading_info=True,
        **common,
    )
    # Checkpoints of masked language models have no pooler, which is behind the layers: not read.
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ModelLoadError(
            f"the checkpoint of '{spec[:200]}' lacks {len(missing)} weights, first '{missing[0]}'"
        )
    tokenizer = AutoTokenizer.from_pretrained(source, **common)
    if not tokenizer.is_fast:
        raise ModelLoadError(
            f"model '{spec[:200]}' has no fast tokenizer", hint="add its tokenizer.json"
        )
    if weights_sha256 is None:
        weights_sha256 = files_sha256(_weight_files(source))
    return Backbone(model, tokenizer, spec, weights_sha256, n_layers)


def _cut(config: Any, layers: Layers) -> int:
    """Leave out the layers after the last wanted one; returns how many there were."""
    text = config.get_text_config(decoder=True)
    n_layers = int(text.num_hidden_layers)
    n_wanted = parse_layers(layers, n_layers)[-1] + 1
    if n_wanted < n_layers:
        text.num_hidden_layers = n_wanted
        for name, value in list(vars(text).items()):
            if isinstance(value, list) and len(value) == n_layers:  # such as layer_types
                setattr(text, name, value[:n_wanted])
    return n_layers


def _weight_files(source: str) -> list[Path]:
    folder = Path(source)
    if not folder.is_dir():  # a Hugging Face id: its snapshot in the cache
        config = try_to_load_from_cache(source, "config.json")
        folder = Path(str(config)).parent
    return sorted(folder.glob("*.safetensors"))


def _require_on_hub(spec: str) -> None:
    """Refuse a spec that names nothing, at once and in one line."""
    near = difflib.get_close_matches(spec, BUILTIN_MODELS, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    hint += f"built in: {', '.join(BUILTIN_MODELS)}; or give a folder, a .gguf file or a hub id"
    not_found = ModelNotFoundError(f"there is no model '{spec[:200]}'", hint=hint)
    try:
        if isinstance(try_to_load_from_cache(spec, "config.json"), str):
            return
        if is_offline():
            raise OfflineError(
                f"model '{spec[:200]}' is not cached and downloads are switched off", hint=hint
            )
        if near and "/" not in spec:  # most likely, and the hub may take a while
            _logger.warning(
                "no model '%s' here, did you mean '%s'? Asking the Hugging Face hub for it",
                spec[:200],
                near[0],
            )
        _ask_hub(spec)
    except HFValidationError:
        raise not_found from None
    except GatedRepoError as error:
        raise ModelLoadError(
            f"model '{spec[:200]}' asks for its licence to be accepted",
            hint="accept it on the model's page and log in with 'hf auth login'",
        ) from error
    except RepositoryNotFoundError:
        raise not_found from None
    except SplineLLMError:
        raise
    except Exception as error:  # the hub's HTTP client, and with it its errors, has changed before
        raise ModelNotFoundError(
            f"there is no local model '{spec[:200]}', and the hub did not answer "
            f"({type(error).__name__})",
            hint=hint,
        ) from error


def _ask_hub(spec: str) -> None:
    """Ask the hub, which may be behind several addresses that never answer, for a while."""
    raised: list[Exception] = []

    def ask() -> None:
        try:
            HfApi().model_info(spec, timeout=_HUB_S)
        except Exception as error:  # noqa: BLE001 (raised below)
            raised.append(error)

    asking = Thread(target=ask, name="splinellm-hub", daemon=True)
    asking.start()
    asking.join(_HUB_S)
    if asking.is_alive():
        raise TimeoutError
    if raised:
        raise raised[0]


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence bars and advice that transformers prints while loading; errors still raise."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
