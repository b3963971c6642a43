# SPDX-License-Identifier: Apache-2.0
"""The picture files: names, numbers and formats. Files are written whole, and overwritten only with --force."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from fastapi_triton.cli.generate.errors import GenerateError, UsageError
from fastapi_triton.core import atomic_file

FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
SUFFIXES = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
STDOUT = "-"
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Outputs:
    """The file of each picture, in order; no files: the only picture goes to standard output."""

    paths: tuple[Path, ...]
    picture_format: str
    is_forced: bool = False

    @classmethod
    def plan(
        cls, output: str | None, *, num: int, picture_format: str | None, is_forced: bool, title: str, default: str
    ) -> "Outputs":
        """Choose the files from the options. `title` and `default` (a format) are for pictures without a named file.

        Raises:
            UsageError: the options contradict each other, or a file exists.
        """
        if output == STDOUT:
            if num > 1:
                raise UsageError("Standard output takes only one picture. Remove --n, or name a file.")
            if sys.stdout.isatty():
                raise UsageError(
                    "Standard output is a terminal, which cannot show the picture. Name a file, or add a pipe."
                )
            return cls((), picture_format or default)
        path = Path(output) if output else Path()
        if path.is_dir():
            chosen = picture_format or default
            return cls(_free(path, title, num, SUFFIXES[chosen]), chosen, is_forced)
        chosen = _format(path, picture_format)
        if not path.parent.is_dir():
            raise UsageError(
                f"The folder {path.parent} for {path.name} does not exist. Create it, or choose another name."
            )
        paths = tuple(_numbered(path, num))
        taken = [str(each) for each in paths if each.is_file()]
        if taken and not is_forced:
            exists = "exists" if len(taken) == 1 else "exist"
            raise UsageError(f"{', '.join(taken)} already {exists}. Choose another name, or add --force.")
        return cls(paths, chosen, is_forced)

    def write(self, index: int, content: bytes) -> Path | None:
        """Write the whole picture or nothing. Returns the file; None for standard output.

        Raises:
            GenerateError: it cannot be written.
        """
        try:
            if not self.paths:
                sys.stdout.buffer.write(content)
                sys.stdout.buffer.flush()
                return None
            path = self.paths[index]
            if path.exists() and not path.is_file():  # /dev/null, a pipe
                path.write_bytes(content)
            else:
                self._replace(path, content)
        except OSError as error:
            name = self.paths[index] if self.paths else "standard output"
            raise GenerateError(f"{name} cannot be written ({error.strerror}).") from None
        return path

    def _replace(self, path: Path, content: bytes) -> None:
        with atomic_file.replacing(path, mode=0o666 & ~_umask(), is_durable=False) as file:
            file.write(content)
            if path.exists() and not self.is_forced:
                raise GenerateError(f"{path} was created by another program meanwhile, and was not overwritten.")


def _format(path: Path, picture_format: str | None) -> str:
    by_suffix = FORMATS.get(path.suffix.lower())
    if picture_format is None and by_suffix is None:
        raise UsageError(f"{path.name} does not name a format. Name it .png, .webp or .jpg, or add --format.")
    if picture_format and by_suffix and picture_format != by_suffix:
        raise UsageError(f"{path.name} means {by_suffix}, but --format is {picture_format}. Change one of them.")
    return picture_format or by_suffix or ""


def _numbered(path: Path, num: int) -> list[Path]:
    if num == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, num + 1)]


def _free(folder: Path, title: str, num: int, suffix: str) -> tuple[Path, ...]:
    """Unused names, made from the title: `a-red-house.png`, `a-red-house-2.png` …"""
    stem = re.sub(r"[^\w]+", "-", title.lower()).strip("-")[:LONGEST_NAME].strip("-") or "picture"
    free: list[Path] = []
    number = 1
    while len(free) < num:
        path = folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
        if not path.exists():
            free.append(path)
        number += 1
    return tuple(free)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
