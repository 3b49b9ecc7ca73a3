"""Hash of a model's weights, by which a classifier knows its backbone again."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from splinellm.files import file_sha256

_SHA256 = re.compile(r"[0-9a-f]{64}")


def files_sha256(files: list[Path]) -> str:
    """Hash of checkpoint files, independent of where they lie.

    The Hugging Face cache names a large file's blob by its sha256, which is taken as is; any other
    file is read.

    Parameters
    ----------
    files : list of Path
        Shards of a checkpoint. One file's hash is its sha256; several are hashed by name and hash.
    """
    hashes = {}
    for path in sorted(files):
        blob = path.resolve().name
        hashes[path.name] = blob if _SHA256.fullmatch(blob) else file_sha256(path)
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def state_sha256(model: nn.Module) -> str:
    """Hash of the weights in memory, for a model that did not come from files.

    Where there are adapters, also of which of them are at work, and how strongly.
    """
    digest = hashlib.sha256()
    digest.update("".join(adapters_of(model)).encode())
    for name, value in sorted(model.state_dict().items()):
        # A packed weight's state is a tuple of tensors and settings.
        for part in value if isinstance(value, tuple) else (value,):
            if not isinstance(part, Tensor):
                digest.update(f"{name} {part}\n".encode())
                continue
            digest.update(f"{name} {part.dtype} {tuple(part.shape)}\n".encode())
            dense = part.dequantize() if part.is_quantized else part
            if part.is_meta:
                dense = _brought(model, name)
            flat = dense.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def adapters_of(model: nn.Module) -> list[str]:
    """Lines of what PEFT keeps beside the weights of adapters, and what changes the maps."""
    kept = ("active_adapters", "disable_adapters", "merged_adapters", "scaling")
    return [
        f"{name} {[f'{it}={getattr(module, it, None)}' for it in kept]}\n"
        for name, module in model.named_modules()
        if hasattr(module, "active_adapters")
    ]


def _brought(model: nn.Module, name: str) -> Tensor:
    """A weight that accelerate keeps elsewhere."""
    owner, _, own = name.rpartition(".")
    module = model.get_submodule(owner)
    with align_module_device(module):
        tensor: Tensor = getattr(module, own)
    return tensor
