"""What accelerate keeps of a module elsewhere, in memory or on disk, until the module is called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.hooks import SequentialHook
from accelerate.utils import OffloadedWeightsLoader, PrefixedDataset
from torch import Tensor, nn


def kept_weight(module: nn.Module, name: str) -> Tensor | Path | None:
    """Look up where a weight is that is not in its module; nothing is loaded for it.

    Parameters
    ----------
    module : Module
        Owns the weight.
    name : str
        The weight's name in it.

    Returns
    -------
    Tensor, Path or None
        The weight in memory, or the file that it is read from; None if it is nowhere known.
    """
    hook: Any = vars(module).get("_hf_hook")
    for one in hook.hooks if isinstance(hook, SequentialHook) else [hook]:
        found: Any = getattr(one, "weights_map", None)
        key = name
        while isinstance(found, PrefixedDataset):
            found, key = found.dataset, found.prefix + key
        if isinstance(found, OffloadedWeightsLoader) and key not in found.state_dict:
            return _file_of(found, key)
        kept = found.state_dict if isinstance(found, OffloadedWeightsLoader) else found
        if isinstance(kept, Mapping) and isinstance(weight := kept.get(key), Tensor):
            return weight
    return None


def _file_of(loader: OffloadedWeightsLoader, key: str) -> Path | None:
    told = loader.index.get(key)
    if told is None:
        return None
    if (file := told.get("safetensors_file")) is not None:
        return Path(file)
    return None if loader.save_folder is None else Path(loader.save_folder) / f"{key}.dat"
