"""One parsing of a .gguf file serves all who ask within the block, and says what it said before."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from splinellm.backbone.gguf_parsing import parsed_once


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_token_list(["a", "größe", "", "日本"])
    writer.add_tensor("x.weight", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_same_file_is_parsed_once_and_reads_the_same(path: Path) -> None:
    plain = gguf.GGUFReader(str(path))
    with parsed_once():
        reader = gguf.GGUFReader(str(path))
        assert gguf.GGUFReader(str(path)) is reader
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30)
        assert gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30) is names
    assert reader.fields.keys() == plain.fields.keys()
    assert all(
        reader.fields[name].contents() == plain.fields[name].contents() for name in plain.fields
    )
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "größe", "", "日本"]
    assert np.array_equal(reader.tensors[0].data, np.arange(12).reshape(3, 4))


def test_nothing_is_left_behind(path: Path) -> None:
    before = gguf.GGUFReader, gguf.get_tensor_name_map
    with pytest.raises(ZeroDivisionError), parsed_once():
        raise ZeroDivisionError
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before
    with parsed_once():
        first = gguf.GGUFReader(str(path))
    with parsed_once():  # the file may be another by now
        assert gguf.GGUFReader(str(path)) is not first
