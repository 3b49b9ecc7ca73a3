from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from splinellm.errors import SchemaError, TableFormatError
from splinellm.provenance import FINGERPRINT_FIELDS, Provenance, read_sidecar, sidecar
from tests.fakes import fake_provenance


def test_json_round_trip() -> None:
    provenance = fake_provenance(model="日本\n\"'", dimension_threshold=0.1)
    text = provenance.to_json()
    assert Provenance.from_json(text) == provenance
    assert Provenance.from_json(text.encode()) == provenance
    assert text.isascii()
    assert "\n" not in text


def test_rows_of_another_kind() -> None:
    provenance = fake_provenance(features=("sign_mean", "sign_std", "sign_block_03"))
    tokens = provenance.at("token")
    assert tokens.granularity == "token"
    assert tokens.features == ("sign_fraction", "sign_block_03")
    assert provenance.at("token") is tokens  # asked for at every verdict
    assert tokens.at("token") == tokens
    assert provenance.at("prefix").features == provenance.features
    with pytest.raises(SchemaError, match="unknown granularity"):
        provenance.at("word")  # type: ignore[arg-type]


def test_a_copy_takes_along_what_it_says_alone() -> None:
    provenance = fake_provenance()
    plain = pickle.dumps(provenance)
    _ = provenance.schema.names, provenance.at("token").schema.names
    assert pickle.dumps(provenance) == plain
    assert pickle.loads(plain) == provenance


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '"x"', "1", b"\xff", "{", '{"a": 1}'])
def test_unreadable_record_is_refused(text: Any) -> None:
    with pytest.raises(TableFormatError, match="unreadable"):
        Provenance.from_json(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema version 2 is not 1"),
        ({"layers": 3}, "unreadable"),
        ({"unknown": 3}, "unreadable"),
    ],
)
def test_changed_record_is_refused(change: dict[str, Any], message: str) -> None:
    record = json.loads(fake_provenance().to_json()) | change
    with pytest.raises(TableFormatError, match=message):
        Provenance.from_json(json.dumps(record))


def test_record_without_a_field_is_refused() -> None:
    record = json.loads(fake_provenance().to_json())
    del record["dtype"]
    with pytest.raises(TableFormatError, match="dtype"):
        Provenance.from_json(json.dumps(record))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weights_sha256", "1" * 64),
        ("dtype", "bfloat16"),
        ("layers", (0, 1)),
        ("features", ("sign_mean",)),
        ("n_blocks", 16),
        ("max_tokens", 9),
        ("granularity", "token"),
        ("dimension_rule", "absolute"),
        ("dimension_threshold", 0.2),
        ("allow_special_tokens", True),
        ("tokenizer_probe", (1, 2, 4)),
        ("schema_version", 2),
    ],
)
def test_whatever_changes_a_number_is_a_difference(field: str, value: Any) -> None:
    mine, theirs = fake_provenance(), fake_provenance(**{field: value})
    difference = mine.first_difference(theirs)
    assert difference is not None
    assert difference.startswith(f"{field} is ")
    assert str(value)[:20] in difference
    assert len(difference) < 250
    assert field in FINGERPRINT_FIELDS


@pytest.mark.parametrize(
    "change", [{}, {"model": "another name"}, {"libraries": {"torch": "9"}}, {"attention": "eager"}]
)
def test_names_and_versions_are_none(change: dict[str, Any]) -> None:
    assert fake_provenance().first_difference(fake_provenance(**change)) is None


def test_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    assert sidecar(path) == tmp_path / "out.csv.provenance.json"
    with pytest.raises(TableFormatError, match=r"out\.csv\.provenance\.json"):
        read_sidecar(path)
    sidecar(path).write_text(fake_provenance().to_json())
    assert read_sidecar(str(path)) == fake_provenance()
