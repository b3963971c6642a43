# SPDX-License-Identifier: Apache-2.0
"""Every step of "Write your own model", in order: an empty folder, a real Triton, and nothing but the page."""

import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import pages
from support.paths import ROOT
from support.serving import Server, serving

PAGE = (ROOT / "docs" / "write-your-own-model.md").read_text(encoding="utf-8")


class Newcomer:
    """Follows a page. There is one server at a time, and it runs until the next one starts."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        self._server: Server | None = None
        self._running = ExitStack()

    def do(self, step: pages.Example) -> None:
        if step.mark.startswith(pages.FILE):
            self._write(self._folder / step.mark.removeprefix(pages.FILE), step.code)
        elif step.mark == pages.SERVER:
            self._serve(*shlex.split(step.code))
        elif step.mark == pages.LOG:
            self.server.wait_for(pages.pattern(self._in_test(step.code.strip())))
        else:
            url = self._server.url if self._server else "http://127.0.0.1:9"
            pages.run(step, url=url, folder=self._folder, programs=self._programs)

    @property
    def server(self) -> Server:
        assert self._server is not None, "the page has not started a server yet"
        return self._server

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _serve(self, program: str, command: str, *arguments: str) -> None:
        assert (program, command) == ("fastapi-triton", "serve")
        self.stop()
        self._server = self._running.enter_context(serving(*arguments, folder=self._folder)).wait_until_ready()

    def _in_test(self, text: str) -> str:
        return text.replace(pages.DOCUMENTED_HOST, f"localhost:{self.server.port}")

    def stop(self) -> None:
        self._running.close()


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    programs, folder = tmp_path / "programs", tmp_path / "empty"
    programs.mkdir()
    folder.mkdir()
    pages.install_command(programs)
    newcomer = Newcomer(folder, programs)
    yield newcomer
    newcomer.stop()


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_step_works_from_an_empty_folder(newcomer: Newcomer) -> None:
    assert pages.GUIDE_MARK in PAGE
    for step in pages.examples(PAGE):
        newcomer.do(step)


def test_the_guide_shows_every_file() -> None:
    files = [step.mark.removeprefix(pages.FILE) for step in pages.examples(PAGE) if step.mark.startswith(pages.FILE)]
    assert len(files) == 7
    for file in files:
        assert f"`{file}`" in PAGE
