from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.models import ModelCatalog
from service.settings import WITHOUT_OPTION, Settings, load_settings
from splinellm.cli import run
from splinellm.errors import ConfigurationError
from tests.service.fakes import fake_catalog

KEYS = "alice:correct-horse,bob:battery-staple"


def test_lists_and_keys_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLINELLM_MODEL", "a, b")
    monkeypatch.setenv("SPLINELLM_CLASSIFIERS", "")
    monkeypatch.setenv("SPLINELLM_API_KEYS", KEYS)
    settings = load_settings()
    assert settings.model == ("a", "b")
    assert settings.classifiers == ()
    assert {name: key.get_secret_value() for name, key in settings.api_keys.items()} == {
        "alice": "correct-horse",
        "bob": "battery-staple",
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.toml", 'port = 1\nhost = "file"\nmodel = ["a", "b"]\n[api_keys]\nalice = "k"'),
        ("s.json", '{"port": 1, "host": "file", "model": ["a", "b"], "api_keys": {"alice": "k"}}'),
        (
            "s.env",
            "SPLINELLM_PORT=1\nSPLINELLM_HOST=file\nSPLINELLM_MODEL=a,b\nSPLINELLM_API_KEYS=alice:k",
        ),
    ],
)
def test_options_win_over_environment_and_environment_over_file(
    name: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text(content)
    monkeypatch.setenv("SPLINELLM_CONFIG", str(tmp_path / name))
    monkeypatch.setenv("SPLINELLM_PORT", "2")
    settings = load_settings()
    assert (settings.host, settings.port, settings.model) == ("file", 2, ("a", "b"))
    assert settings.api_keys["alice"].get_secret_value() == "k"
    assert load_settings(port=3).port == 3


@pytest.mark.parametrize(
    ("name", "content"),
    [("s.toml", "port = 1"), ("s.json", '{"port": 1}'), ("s.env", "SPLINELLM_PORT=1")],
)
def test_a_file_may_begin_with_a_byte_order_mark(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert load_settings(config=tmp_path / name).port == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 65_536}, "port"),
        ({"port": -1}, "port"),
        ({"model": ""}, "no model"),
        ({"model": "a,a"}, "twice"),
        ({"device": "gpu"}, "device"),
        ({"batch_wait_ms": -1}, "batch_wait_ms"),
        ({"request_timeout_s": "inf"}, "finite"),
        ({"request_timeout_s": "nan"}, "request_timeout_s"),
        ({"request_timeout_s": 0}, "request_timeout_s"),
        ({"header_timeout_s": "inf"}, "finite"),
        ({"body_timeout_s": 0}, "body_timeout_s"),
        ({"max_header_bytes": 100}, "max_header_bytes"),
        ({"max_connections": 0}, "max_connections"),
        ({"cpu_threads": 0}, "cpu_threads"),
        ({"threads": 0}, "threads"),
        ({"overflow": "ignore"}, "overflow"),
        ({"max_queue_inputs": 8}, r"max_queue_inputs \(8\) is less than max_client_batch_size"),
        ({"max_queue_tokens": 99}, r"max_queue_tokens \(99\) is less than max_input_tokens"),
        ({"max_batch_tokens": 600_000}, "is less than max_batch_tokens"),
        ({"payload_limit": 10}, "is less than max_input_chars"),
        ({"batch_wait_ms": 5000, "request_timeout_s": 5}, "batch_wait_ms is not less"),
        ({"rate_limit_per_minute": 5}, "needs api_keys"),
        ({"api_keys": "alice"}, "a key is empty"),
        ({"api_keys": "alice:**********"}, "hidden by --print-config"),
        ({"api_keys": "alice:k,bob:k"}, "two names have the same key"),
        ({"api_keys": "alice:k,alice:j"}, "a name occurs twice"),
        ({"api_keys": "al ice:k"}, "a name is not of"),
        ({"cors_origins": "example.org"}, "an origin"),
        ({"config": "missing.toml"}, "does not exist"),
        ({"host": ""}, "host: .*at least 1 character"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_settings(**options)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.toml", 'api_keys = "alice:correct-horse'),
        ("s.json", '{"api_keys": {"alice": "correct-horse"'),
        ("s.json", '{"api_keys": ["correct-horse"]}'),
        ("s.json", '{"api_keys": {"alice": ["correct-horse"]}}'),
        ("s.env", "SPLINELLM_API_KEYS={correct-horse"),
        ("s.toml", 'prot = 1\nkey = "correct-horse"'),
        ("s.json", '["correct-horse"]'),
        ("s.json", '"correct-horse"'),
    ],
)
def test_errors_of_files_never_show_a_secret(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config=tmp_path / name)
    assert "correct-horse" not in str(caught.value)
    chain = caught.value.__cause__ or caught.value.__context__
    assert caught.value.__suppress_context__ or chain is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("s.toml", "port = 1\nhost = \n", "its line 2 is no TOML"),
        ("s.json", '{"port": 1,\n"host": }', "its line 2 is no JSON"),
        ("s.json", "[1]", r"s\.json' cannot be read"),
        ("s.json", '[["port", 1]]', r"s\.json' cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_line(
    name: str, content: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigurationError, match=reason):
        load_settings(config=tmp_path / name)


def test_print_config_hides_secrets_and_can_be_read_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPLINELLM_API_KEYS", KEYS)
    assert run(["serve", "--print-config", "--port", "9", "--overflow", "window"]) == 0
    shown = capsys.readouterr().out
    assert "horse" not in shown
    assert "alice" in shown
    values = json.loads(shown)
    values["api_keys"] = {}
    monkeypatch.delenv("SPLINELLM_API_KEYS")
    (tmp_path / "s.json").write_text(json.dumps(values))
    again = load_settings(config=tmp_path / "s.json")
    assert (again.port, again.overflow) == (9, "window")


@pytest.mark.parametrize(
    "arguments", [["--port", "99999"], ["--port", "x"], ["--max-queue-inputs", "1"]]
)
def test_impossible_options_are_bad_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", *arguments]) == 2
    assert re.fullmatch(r"splinellm: error: .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("option", ["--api-keys", "--api-key", "--api_keys=me:secret"])
def test_a_setting_without_an_option_says_how_it_is_made(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", option, "me:secret"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"splinellm: error: Invalid value: no such option: {option[:9]}")
    assert "set the variable SPLINELLM_API_KEYS, or api_keys in the file of --config" in line
    assert "secret" not in line


def test_other_unknown_options_are_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--prot", "1"]) == 2
    assert capsys.readouterr().err.startswith("splinellm: error: No such option: --prot")


def test_every_setting_has_an_option_whose_help_tells_its_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["serve", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    parts = re.split(r"\[env var: SPLINELLM_(\w+)\]", text)
    help_of = {name.lower(): part for part, name in zip(parts[::2], parts[1::2], strict=False)}
    assert "Print the settings" in help_of.pop("print_config")  # which is none of them
    assert help_of.keys() == Settings.model_fields.keys() - WITHOUT_OPTION.keys()
    for name, part in help_of.items():
        assert f"--{name.replace('_', '-')} " in part
        default = Settings.model_fields[name].default
        told = re.search(r"(\S+) by default", part)
        if told and default is not None and default != ():
            assert told[1] == str(default)


def test_threads_are_limited_before_models_load(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    told: list[int | str] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)

    def load(_settings: Settings, _listener: object) -> ModelCatalog:
        told.append("loaded")
        return fake_catalog()

    app = create_app(Settings(threads=3), load=load)
    with TestClient(app) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
    assert told == [3, "loaded"]
