# SPDX-License-Identifier: Apache-2.0
"""Every example of `docs/openai.md` and `docs/a1111.md`, run in order against a real server."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from support.paths import ROOT
from support.serving import Server

pytestmark = pytest.mark.integration


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert found
    return found


def run(command: list[str], server: Server, folder: Path) -> str:
    shutil.copytree(ROOT / "demo" / "examples", folder / "demo" / "examples", dirs_exist_ok=True)
    command[-1] = (
        command[-1]
        .replace("http://localhost:8080", server.url)
        .replace('host="localhost", port=8080', f'host="127.0.0.1", port={server.port}')
    )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def opened(path: Path) -> tuple[str | None, tuple[int, int]]:
    with Image.open(path) as image:
        image.load()
        return image.format, image.size


def test_openai_client_examples_of_the_page_work(scribble_server: Server, tmp_path: Path) -> None:
    printed = run([sys.executable, "-c", "\n".join(blocks("openai.md", "python"))], scribble_server, tmp_path)
    first, second, third = printed.splitlines()
    assert first == "256x256 7"
    assert f"\n{second}\n" in (ROOT / "docs" / "openai.md").read_text()
    assert third.startswith("size invalid_value")
    assert opened(tmp_path / "house.png") == ("PNG", (256, 256))
    assert [opened(tmp_path / f"star-{index}.webp") for index in (0, 1)] == [("WEBP", (1024, 1024))] * 2
    assert list(tmp_path.glob("cat-?.png"))  # a busy engine may skip some
    assert {opened(path) for path in tmp_path.glob("cat*.png")} == {("PNG", (256, 256))}


def test_a1111_client_examples_of_the_page_work(scribble_server: Server, tmp_path: Path) -> None:
    printed = run([sys.executable, "-c", "\n".join(blocks("a1111.md", "python"))], scribble_server, tmp_path)
    first, second = printed.splitlines()
    assert first == "7 []"
    assert "was interrupted at step" in second
    assert opened(tmp_path / "house.png") == ("PNG", (128, 128))


@pytest.mark.parametrize(("page", "text"), [("openai.md", '"b64_json"'), ("a1111.md", '"images"')])
def test_curl_examples_of_the_page_work(scribble_server: Server, tmp_path: Path, page: str, text: str) -> None:
    (block,) = blocks(page, "bash")
    printed = run(["bash", "-euo", "pipefail", "-c", block], scribble_server, tmp_path)
    assert text in printed
    assert '"error"' not in printed
