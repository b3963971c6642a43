# SPDX-License-Identifier: Apache-2.0
"""The installed wheel: it serves pictures from an empty folder, and `init` writes an app that can be edited."""

import io
import os
import re
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from support import installer
from support.paths import ROOT
from support.scribble_app import PATH
from support.serving import Server

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def draw_a_picture(server: Server, scribble: Path) -> None:
    response = server.post(
        PATH,
        data={"prompt": "a red house in the snow"},
        files={"image": (scribble.name, scribble.read_bytes())},
        headers={"Accept": "image/png"},
    )
    assert response.status_code == 200, response.text
    Image.open(io.BytesIO(response.content)).load()


def test_installed_package_serves_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(installed), str(wheel)]
    subprocess.run(command, check=True)
    empty = tmp_path / "an empty folder"
    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "fastapi_triton", "serve", "--embedded"]
    server = Server(command, folder=empty, environment=environment)
    try:
        server.wait_until_ready()
        assert str(installed) in server.log  # the wheel's model repository
        draw_a_picture(server, ROOT / "demo" / "examples" / "house.png")
        page = server.get("/").text
        for name in ("page.js", "page.css", "house.webp"):
            address = re.search(rf"playground/[0-9a-f]+/{name}", page)
            assert address
            assert server.get(f"/{address[0]}").status_code == 200
    finally:
        server.stop()
    assert not list(empty.iterdir())


def test_fresh_environment_with_the_embedded_extra_serves_an_edited_app(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    # pip's settings choose the build of PyTorch.
    torch = f"torch=={version('torch').partition('+')[0]}"
    subprocess.run([python, "-m", "pip", "install", "--quiet", torch], check=True)
    installer.install(python, f"{wheel}[embedded]")
    program = str(tmp_path / "venv" / "bin" / "fastapi-triton")
    subprocess.run([program, "init", "my app"], cwd=tmp_path, check=True)
    folder = tmp_path / "my app"
    main = (folder / "main.py").read_text()
    (folder / "main.py").write_text(main.replace("/sdxl/scribble-controlnet/infer", "/draw"))
    server = Server([program, "serve", "--embedded"], folder=folder)
    try:
        server.wait_until_ready()
        assert str(folder / "models") in server.log
        assert server.post("/draw", json={"prompt": "a"}).status_code == 422  # a route of the app
    finally:
        server.stop()
