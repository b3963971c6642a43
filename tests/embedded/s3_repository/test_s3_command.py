# SPDX-License-Identifier: Apache-2.0
"""`serve --models s3://…`: errors before the start; and the command that only downloads models."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner, Result

from fastapi_triton.cli import main, serve
from fastapi_triton.embedded.s3_repository import __main__ as command
from fastapi_triton.embedded.triton_process import EmbeddedTritonError
from fastapi_triton.serving import run
from support.s3_store import BUCKET, Store


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Undo the environment variables that the command sets."""
    with mock.patch.dict(os.environ):
        yield


def served(models: str, cache: Path) -> Result:
    arguments = ["serve", "--port", "0", "--embedded", "--models", models, "--models-cache", str(cache)]
    return CliRunner().invoke(main.app, arguments)


def test_a_failed_download_is_one_line_and_nothing_starts(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run", pytest.fail)
    monkeypatch.setattr(serve, "require_machine", lambda: None)  # on any Python
    result = served("s3://my-bukcet/models", cache)
    assert result.exit_code == 2
    assert "There is no bucket my-bukcet" in result.output.splitlines()[-1]
    assert "Traceback" not in result.output


def test_the_error_for_the_missing_extra_has_the_install_command(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def without_crt(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "awscrt" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without_crt)
    result = served(f"s3://{BUCKET}/models", cache)
    assert result.exit_code == 2
    assert "pip install 'fastapi-triton[embedded,s3]'" in result.output


def test_the_url_of_another_kind_of_store_is_rejected(cache: Path) -> None:
    result = served("gs://bucket/models", cache)
    assert result.exit_code == 2
    assert "not gs://bucket/models" in result.output


def test_a_machine_that_cannot_run_triton_downloads_nothing(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Path:
        raise EmbeddedTritonError("not on this machine")

    monkeypatch.setattr(serve, "require_machine", refuse)
    result = served(f"s3://{BUCKET}/models", cache)
    assert (result.exit_code, result.output.strip()) == (2, "not on this machine")
    assert not store.requests


def test_the_command_prints_the_folder(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put("models/echo/config.pbtxt", "name: 'echo'")
    monkeypatch.setenv("FASTAPI_TRITON_MODELS_CACHE", str(cache))
    monkeypatch.setattr(sys, "argv", ["s3_models", f"s3://{BUCKET}/models"])
    command.main()
    assert (Path(capsys.readouterr().out.strip()) / "echo" / "config.pbtxt").is_file()
    monkeypatch.setattr(sys, "argv", ["s3_models", f"s3://{BUCKET}/modles"])
    with pytest.raises(SystemExit, match="There is nothing under"):
        command.main()
