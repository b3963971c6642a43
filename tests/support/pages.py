# SPDX-License-Identifier: Apache-2.0
"""The examples of a page of `docs/`, and how they are run: in order, in one folder, against a running server.

A page takes part by the comment `<!-- every example is run by tests/docs -->`. Each of its ```bash and ```python blocks
is then run, but for one with `<!-- untested: why -->` or `<!-- tested by: where -->` above it. With `<!-- output -->`
above it, the next block is what the example before it prints; `…` stands for anything.

A page with `<!-- every example is run on example models -->` has a server in front of `example_models/`.

A guide that begins in an empty folder has `<!-- every step is run by tests/docs -->` instead. Its blocks may also have
above them:
- `<!-- file: PATH -->`: the block is this file.
- `<!-- exit code N -->`: the command fails with it.
- `<!-- server -->`: the command starts the server that later examples use, in place of an earlier one.
- `<!-- server prints -->`: the server prints the block.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.paths import ROOT

MARK = "<!-- every example is run by tests/docs -->"
EXAMPLE_MODELS_MARK = "<!-- every example is run on example models -->"
GUIDE_MARK = "<!-- every step is run by tests/docs -->"
FILE, SERVER, LOG = "file: ", "server", "server prints"
DOCUMENTED_HOST = "localhost:8080"
LANGUAGES = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^>\n]*) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
TIMEOUT_S = 120


@dataclass(slots=True)
class Example:
    """One block to run. `expected` is its output, None if the page has none; `mark` is the comment above the block."""

    line: int
    language: str
    code: str
    expected: str | None = None
    mark: str = ""

    @property
    def exit_code(self) -> int:
        return int(self.mark.removeprefix("exit code ")) if self.mark.startswith("exit code ") else 0


def examples(page: str) -> Iterator[Example]:
    """Those that are run, in order.

    Raises:
        ValueError: the page's marks make no sense.
    """
    last: Example | None = None
    for block in _BLOCK.finditer(page):
        mark, language, code = block["mark"] or "", block["language"], block["code"]
        line = page.count("\n", 0, block.start("code"))
        if mark == "output":
            if last is None:
                raise ValueError(f"line {line}: an output without an example")
            last.expected = code
            yield last
            last = None
            continue
        if last is not None:
            yield last
        is_run = language in LANGUAGES and not mark.startswith(("untested: ", "tested by: "))
        is_step = mark.startswith(FILE) or mark in (SERVER, LOG)
        last = Example(line, language, code, mark=mark) if is_run or is_step else None
    if last is not None:
        yield last


def run(example: Example, *, url: str, folder: Path, programs: Path) -> None:
    """Run it and compare what it prints.

    Args:
        url: the server that stands for the page's `http://localhost:8080`.
        programs: a folder with the commands that the page uses and that are not installed.
    """
    environment = {
        **os.environ,
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FASTAPI_TRITON_URL": url,
        "COLUMNS": "100",
    }
    host = url.removeprefix("http://")
    command = [*LANGUAGES[example.language], example.code.replace(DOCUMENTED_HOST, host)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    where = f"the example at line {example.line}:\n{example.code}"
    assert done.returncode == example.exit_code, f"{where}\nended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    if example.expected is not None:
        printed = done.stdout.replace(host, DOCUMENTED_HOST)
        assert fits(printed, example.expected), f"{where}\nprinted:\n{printed}\n{done.stderr}"


def run_all(page: Path, *, url: str, folder: Path) -> None:
    """Run the examples of a page in an empty folder, which gets the drawings of `demo/examples`."""
    shutil.copytree(ROOT / "demo" / "examples", folder / "demo" / "examples")
    programs = folder / "programs"
    programs.mkdir()
    install_command(programs)
    found = list(examples(page.read_text(encoding="utf-8")))
    assert found
    for example in found:
        run(example, url=url, folder=folder, programs=programs)


def fits(printed: str, expected: str) -> bool:
    """Whether it is what the page says, whatever the white space; JSON in the page's own layout."""
    return re.fullmatch(pattern(_bare(expected)), _bare(_plain_json(printed)), re.DOTALL) is not None


def pattern(expected: str) -> str:
    """The regular expression of a text in which `…` stands for anything."""
    return "".join(".*?" if part == "…" else re.escape(part) for part in re.split("(…)", expected))


def _plain_json(text: str) -> str:
    """Non-ASCII letters as themselves, as the page has them."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        return text


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", text)


def install_command(programs: Path) -> None:
    """`fastapi-triton` as this very Python runs it."""
    script = programs / "fastapi-triton"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fastapi_triton "$@"\n')
    script.chmod(0o755)
