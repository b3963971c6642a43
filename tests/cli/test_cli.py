# SPDX-License-Identifier: Apache-2.0
"""The command line: flags, invalid options, and `init`."""

import importlib.util
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from fastapi_triton import TritonFrontend
from fastapi_triton.cli.main import app
from fastapi_triton.core.settings import Settings
from fastapi_triton.serving import run

runner = CliRunner()


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Restore the environment variables that the command sets."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_every_setting_is_a_flag_of_serve() -> None:
    help_text = runner.invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for name in Settings.model_fields:
        flag = "--triton" if name == "triton_url" else f"--{name.replace('_', '-')}"
        assert flag in help_text


def test_a_grpc_url_without_the_extra_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "grpc" else find(name))
    result = runner.invoke(app, ["serve", "--port", "0", "--triton-grpc-url", "grpc://localhost:8001"])
    assert result.exit_code == 2
    assert "pip install 'fastapi-triton[grpc]'" in result.output


def test_an_embedded_triton_has_its_own_grpc_url(tmp_path: Path) -> None:
    arguments = ["serve", "--port", "0", "--embedded", "--models", str(tmp_path)]
    result = runner.invoke(app, [*arguments, "--triton-grpc-url", "grpc://localhost:8001"])
    assert result.exit_code == 2
    assert "TRITON_GRPC_URL names another one" in result.output


def test_an_app_with_a_grpc_url_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastapi_triton.triton.grpc_stream", raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fastapi-triton\[grpc\]'"):
        TritonFrontend(settings=Settings(triton_grpc_url="grpc://localhost:8001"))


def test_every_setting_has_a_description_and_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_URL", "http://gpu:8000")
    monkeypatch.setenv("FASTAPI_TRITON_MAX_IN_FLIGHT", "5")
    settings = Settings()
    assert settings.triton_url == "http://gpu:8000"
    assert settings.max_in_flight == 5
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--embedded", "--triton", "http://x:8000"], "--embedded starts its own Triton"),
        (["--models", "models"], "add --embedded"),
        (["--triton", "not a url"], "TRITON_URL"),
        (["--max-in-flight", "0"], "must be above 0"),
        (["--log-format", "xml"], 'must be "text" or "json"'),
        (["nope:app"], "no module nope"),
        (["main:nope"], "no FastAPI app named nope"),
        (["--embedded", "--models", "/nope"], "no model repository at /nope"),
    ],
)
def test_invalid_options_of_serve_exit_with_2_and_a_reason(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run", pytest.fail)
    result = runner.invoke(app, ["serve", "--port", "0", *arguments])
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output


def test_the_error_for_a_port_in_use_names_the_port_and_its_flag(taken_port: int) -> None:
    result = runner.invoke(app, ["serve", "--port", str(taken_port)])
    assert result.exit_code == 2
    assert str(taken_port) in result.output
    assert "--port" in result.output


def test_init_writes_an_app_and_a_model_repository(tmp_path: Path) -> None:
    folder = tmp_path / "my app"
    result = runner.invoke(app, ["init", str(folder)])
    assert result.exit_code == 0, result.output
    assert (folder / "main.py").is_file()
    assert (folder / "models" / "sdxl_scribble_controlnet" / "config.pbtxt").is_file()
    assert (folder / "scribble.png").is_file()
    assert "fastapi-triton serve --embedded" in result.output


def test_init_does_not_change_a_folder_with_files(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("mine")
    result = runner.invoke(app, ["init", str(tmp_path)])
    assert result.exit_code == 2
    assert (tmp_path / "main.py").read_text() == "mine"
