# SPDX-License-Identifier: Apache-2.0
"""The README that `fastapi-triton init` writes: about the files that are there, with commands that work."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from fastapi_triton.cli.main import app
from support.paths import ROOT
from support.serving import Server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my-app"
    assert CliRunner().invoke(app, ["init", str(folder)]).exit_code == 0
    return folder


def test_readme_names_every_file_of_the_folder(folder: Path) -> None:
    named = re.findall(r"^\| `([^`]+)` \|", (folder / "README.md").read_text(), re.MULTILINE)
    top = {name.split("/")[0] for name in named}
    assert top == {each.name for each in folder.iterdir()} - {"README.md"}
    assert all((folder / name).exists() for name in named)


def test_readme_names_commands_and_pages_that_exist(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    commands = set(re.findall(r"(?m)(?:^|`)fastapi-triton ([a-z]+)", text))
    assert commands == {"serve", "check", "openapi", "keys"}
    assert commands <= set(getattr(get_command(app), "commands", {}))
    pages = re.findall(r'"([A-Z][^"]+)"', text)
    assert len(pages) > 4
    titles = {page.read_text().splitlines()[0].removeprefix("# ") for page in (ROOT / "docs").rglob("*.md")}
    assert set(pages) <= titles


def test_readme_has_no_link_to_a_file_that_is_not_in_the_folder(folder: Path) -> None:
    assert not re.findall(r"\]\((?!https?://)", (folder / "README.md").read_text())


@pytest.mark.integration
def test_readmes_request_makes_a_picture(folder: Path, scribble_server: Server) -> None:
    start, request = re.findall(r"```bash\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert start == "fastapi-triton serve --embedded\n"  # as `scribble_server` was started
    assert shutil.which("curl")
    command = request.replace("http://localhost:8080", scribble_server.url)
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=folder, capture_output=True, check=True)
    with Image.open(folder / "picture.png") as picture:
        assert picture.format == "PNG"
