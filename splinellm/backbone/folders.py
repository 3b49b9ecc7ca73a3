"""Folders of models: whether one can be loaded, and where those with a name are."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from splinellm.backbone.builtin import BUILTIN_MODELS, DEFAULT_MODEL, pull
from splinellm.backbone.conversion import checkpoint_folder
from splinellm.errors import ModelLoadError, ModelNotFoundError

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def model_path(name: str = DEFAULT_MODEL) -> Path:
    """Folder of a model that transformers opens: a checkpoint with its tokenizer.

    ``AutoModelForCausalLM.from_pretrained`` takes it for decoders, ``AutoModel`` for encoders.

    Parameters
    ----------
    name : str
        A built-in model, which is fetched and unpacked (in float32) if it is not there yet; a
        folder, or the Hugging Face id of a model that is cached.

    Raises
    ------
    ModelNotFoundError
        There is no such model here.
    OfflineError, ModelLoadError, IntegrityError
        A built-in one cannot be fetched or is damaged, or a folder holds no model.

    Examples
    --------
    >>> AutoModelForCausalLM.from_pretrained(model_path("smollm2-135m"))  # doctest: +SKIP
    """
    if name in BUILTIN_MODELS:
        return checkpoint_folder(pull(name), BUILTIN_MODELS[name].sha256)
    folder = Path(name).expanduser()
    if folder.is_dir():
        require_model(folder)
        return folder.resolve()
    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        config = None
    if isinstance(config, str):
        return Path(config).parent
    raise ModelNotFoundError(
        f"there is no folder of a model '{name[:200]}' here",
        hint=f"built in: {', '.join(BUILTIN_MODELS)}; or give a folder or a cached hub id",
    )


def require_model(folder: Path) -> None:
    """Make sure that a folder is one of a model with its tokenizer.

    Raises
    ------
    ModelLoadError
        Says in one sentence what it is, or what it lacks.
    """
    shown = f"'{str(folder)[:200]}'"
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelLoadError(
            f"{shown} holds an adapter, not a model{_base_of(folder)}",
            hint="load base and adapter with peft, then SplineExtractor(model, tokenizer); or save "
            "model.merge_and_unload() and its tokenizer, and name that folder",
        )
    if not (folder / "config.json").is_file():
        raise ModelLoadError(
            f"{shown} holds no model: it has no config.json",
            hint="name the folder that model.save_pretrained has written",
        )


def require_tokenizer(folder: Path) -> None:
    """Refuse a folder of a model that can be read, but without its tokenizer.

    Raises
    ------
    ModelLoadError
        Says what to put there.
    """
    shown = f"'{str(folder)[:200]}'"
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelLoadError(
            f"{shown} holds a model without its tokenizer",
            hint=f"put it there, too: tokenizer.save_pretrained({shown})",
        )


def _base_of(folder: Path) -> str:
    try:
        base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f": it is of '{base[:120]}'" if isinstance(base, str) and base else ""
