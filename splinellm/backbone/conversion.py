"""Read .gguf files, and keep built-in models as checkpoint folders.

transformers reads GGUF, but unpacking weights and rebuilding the tokenizer takes many seconds. A
built-in model is therefore unpacked once, into a folder of safetensors that loads in a fraction of
that, and whose hash is checked on every load. One that comes as a zip is unzipped likewise.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import zipfile
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


def checkpoint_folder(source: Path, sha256: str) -> Path:
    """Folder with the checkpoint of a built-in model; made on first use.

    Parameters
    ----------
    source : Path
        Packed weights (.gguf), which are dequantised, or a zip of a checkpoint.
    sha256 : str
        Its expected hash.

    Returns
    -------
    Path
        A transformers checkpoint in float32 with its tokenizer.

    Raises
    ------
    IntegrityError
        The source is not the expected one.
    """
    folder = source.parent / f"float32-{_CONVERSION}"
    if _is_intact(folder, sha256):
        return folder
    with FileLock(source.parent / ".lock"):
        if _is_intact(folder, sha256):
            return folder
        found = file_sha256(source)
        if found != sha256:
            raise IntegrityError(
                f"{source} has sha256 {found}, expected {sha256}",
                hint="delete the file; it is fetched again",
            )
        with tempfile.TemporaryDirectory(dir=source.parent) as temporary:
            made = Path(temporary) / folder.name
            made.mkdir()
            if source.suffix == ".zip":
                with zipfile.ZipFile(source) as archive:
                    archive.extractall(made)
            else:
                _convert(source, made)
            _write_manifest(made, sha256)
            if folder.exists():  # damaged, or of another conversion
                folder.rename(Path(temporary) / "damaged")
            made.rename(folder)
    return folder


def _is_intact(folder: Path, sha256: str) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        hashes: dict[str, str] = manifest["files"]
        made_of = manifest.get("source_sha256", manifest.get("gguf_sha256"))  # as older ones say
        return made_of == sha256 and all(
            file_sha256(folder / name) == digest for name, digest in hashes.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _convert(gguf: Path, folder: Path) -> None:
    model, tokenizer = read_gguf(gguf, torch.float32)
    # save_pretrained refuses a model that came from a quantised file, dequantised or not.
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / _WEIGHTS, metadata={"format": "pt"})
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_manifest(folder: Path, sha256: str) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    manifest = {
        "source_sha256": sha256,
        "files": {path.relative_to(folder).as_posix(): file_sha256(path) for path in files},
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))
