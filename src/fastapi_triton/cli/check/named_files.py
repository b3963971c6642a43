# SPDX-License-Identifier: Apache-2.0
"""Looks for files that a config names. It may name any path, even one that no file can have."""

from pathlib import Path


def joined(folder: Path, name: str) -> Path:
    """The path of a file, as Triton joins it: `/a` is `a` in the folder, too."""
    return folder / name.lstrip("/")


def is_file(path: Path) -> bool:
    """Whether it is a regular file, or a link to one: neither a device nor a FIFO, which reads would wait for."""
    try:
        return path.is_file()
    except OSError:  # the name is too long, or a folder cannot be entered
        return False


def exists(path: Path) -> bool:
    """Whether it is a file or a folder."""
    try:
        return path.exists()
    except OSError:
        return False


def is_outside(folder: Path, name: str) -> bool:
    """Whether the path leads out of the folder. False if it leads nowhere."""
    try:
        return not joined(folder, name).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a name with NUL
        return False
