"""Read .gguf files, and keep a dequantised copy of the default model.

transformers reads GGUF, but unpacking weights and rebuilding the tokenizer takes many seconds. The
built-in model is therefore unpacked once, into a folder of safetensors that loads in a fraction of
that, and whose hash is checked on every load.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer, GgufConfig, PreTrainedModel

from splinellm.backbone.gguf_parsing import parsed_once
from splinellm.errors import IntegrityError
from splinellm.files import file_sha256

_CONVERSION = 1
"""Raised when the converted folder's content changes; older folders are then made anew."""

_WEIGHTS = "model.safetensors"
_MANIFEST = "manifest.json"


def read_gguf(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, Any]:
    """Load model and tokenizer from a .gguf file, always dequantised.

    Without being forced to, transformers leaves the weights packed where it finds a kernel for
    them, and the norms of packed weights mean nothing.
    """
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    # The unpacking draws a bar of its own, which transformers' switch for bars does not reach.
    with parsed_once():
        with contextlib.redirect_stderr(io.StringIO()):
            model = AutoModel.from_pretrained(
                **where,
                dtype=dtype,
                quantization_config=GgufConfig(dequantize=True),
            )
        return model, AutoTokenizer.from_pretrained(**where)


def dense_folder(gguf: Path, gguf_sha256: str) -> Path:
    """Folder with the dequantised copy of a built-in model; made on first use.

    Parameters
    ----------
    gguf : Path
        The packed weights.
    gguf_sha256 : str
        Their expected hash.

    Returns
    -------
    Path
        A transformers checkpoint in float32 with its tokenizer.

    Raises
    ------
    IntegrityError
        The packed weights are not the expected ones.
    """
    folder = gguf.parent / f"float32-{_CONVERSION}"
    if _is_intact(folder, gguf_sha256):
        return folder
    with FileLock(gguf.parent / ".lock"):
        if _is_intact(folder, gguf_sha256):
            return folder
        found = file_sha256(gguf)
        if found != gguf_sha256:
            raise IntegrityError(
                f"{gguf} has sha256 {found}, expected {gguf_sha256}",
                hint="delete the file; it is fetched again",
            )
        with tempfile.TemporaryDirectory(dir=gguf.parent) as temporary:
            made = Path(temporary) / folder.name
            _convert(gguf, made, gguf_sha256)
            if folder.exists():  # damaged, or of another conversion
                folder.rename(Path(temporary) / "damaged")
            made.rename(folder)
    return folder


def _is_intact(folder: Path, gguf_sha256: str) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        hashes: dict[str, str] = manifest["files"]
        return manifest["gguf_sha256"] == gguf_sha256 and all(
            file_sha256(folder / name) == digest for name, digest in hashes.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _convert(gguf: Path, folder: Path, gguf_sha256: str) -> None:
    model, tokenizer = read_gguf(gguf, torch.float32)
    folder.mkdir()
    # save_pretrained refuses a model that came from a quantised file, dequantised or not.
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / _WEIGHTS, metadata={"format": "pt"})
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    manifest = {
        "gguf_sha256": gguf_sha256,
        "files": {path.name: file_sha256(path) for path in files},
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))
