from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from accelerate import cpu_offload, disk_offload

from splinellm.backbone.fingerprint import files_sha256, state_sha256
from tests.backbone.test_norms import quantised
from tests.tiny import tiny_model


def test_one_file_has_its_own_hash(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    found = files_sha256([tmp_path / "model.safetensors"])
    assert found == hashlib.sha256(b"weights").hexdigest()


def test_shards_are_hashed_by_name_wherever_they_lie(tmp_path: Path) -> None:
    hashes = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        files = [folder / "1.safetensors", folder / "2.safetensors"]
        for number, path in enumerate(files):
            path.write_bytes(b"%d" % number)
        hashes += [files_sha256(files), files_sha256(files[::-1])]
        files[0].write_bytes(b"1")
        files[1].write_bytes(b"0")  # swapped: another model
        hashes.append(files_sha256(files))
    assert hashes[0] == hashes[1] == hashes[3] == hashes[4]
    assert hashes[2] == hashes[5] != hashes[0]


def test_hub_blob_is_not_read_again(tmp_path: Path) -> None:
    # The hub's cache links large files to blobs that are named by their sha256.
    name = "ab" * 32
    (tmp_path / name).write_bytes(b"any")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / name)
    assert files_sha256([tmp_path / "model.safetensors"]) == name


def test_state_hash_follows_the_weights() -> None:
    model = tiny_model()
    before = state_sha256(model)
    assert state_sha256(tiny_model()) == before
    with torch.no_grad():
        model.layers[2].mlp.down_proj.weight[0, 0] += 1e-6
    assert state_sha256(model) != before
    assert len({state_sha256(tiny_model().to(d)) for d in (torch.float16, torch.bfloat16)}) == 2


def test_state_hash_of_packed_weights() -> None:
    packed = [state_sha256(quantised(tiny_model(seed=seed))) for seed in (0, 0, 1)]
    assert packed[0] == packed[1] != packed[2]


def test_weights_that_are_kept_elsewhere(tmp_path: Path) -> None:
    expected = state_sha256(tiny_model())
    here = torch.device("cpu")
    in_memory, on_disk = tiny_model(), tiny_model()
    cpu_offload(in_memory, execution_device=here)
    disk_offload(on_disk, str(tmp_path), execution_device=here)
    for model in (in_memory, on_disk):
        assert all(weight.is_meta for weight in model.parameters())
        assert state_sha256(model) == expected
        assert all(weight.is_meta for weight in model.parameters())
