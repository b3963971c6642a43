# SPDX-License-Identifier: Apache-2.0
"""The `curl` command that `serve` prints when it is ready."""

import shlex
from pathlib import Path

import pytest

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.serving.run import example
from support.api_keys import DRAWS, block
from support.scribble_app import MODEL, PATH

URL = "http://localhost:8080"


def command_of(settings: Settings) -> list[str]:
    app = TritonFrontend(settings=settings)
    app.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    return shlex.split(example(app, URL).partition("Try it: ")[2])


def test_the_command_uses_the_scribble_of_a_folder_that_init_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = command_of(Settings())[-1]
    assert Path(elsewhere.removeprefix("image=@")).is_file()
    Path("scribble.png").touch()
    assert command_of(Settings())[-1] == "image=@scribble.png"


def test_the_command_shows_the_header_for_a_key_if_the_server_needs_one(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(block("draws", DRAWS))
    assert "X-API-Key: <your key>" in command_of(Settings(api_keys_file=str(keys)))
    assert "X-API-Key: <your key>" not in command_of(Settings())
