# SPDX-License-Identifier: Apache-2.0
"""Atomic file writes: the content goes to a temporary file in the same folder, which is then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, *, mode: int = 0o600, is_durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` at the end of the block. If the block fails, `path` is unchanged.

    Args:
        is_durable: sync the content to disk, so that it survives a power cut.
    """
    with _temporary(path) as (file, temporary):
        yield file
        os.fchmod(file.fileno(), mode)
        _flush(file, is_durable=is_durable)
        temporary.replace(path)
    if is_durable:
        sync_folder(path.parent)


def create(path: Path, data: bytes) -> None:
    """Write a new file, readable by this user only, and sync it to disk. An existing file stays unchanged."""
    with _temporary(path) as (file, temporary):
        file.write(data)
        _flush(file, is_durable=True)
        with suppress(FileExistsError):
            os.link(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder to disk, so that new and renamed files survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A temporary file in the same folder, and so on the same disk. It is removed unless the block renames it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


def _flush(file: BinaryIO, *, is_durable: bool) -> None:
    file.flush()
    if is_durable:
        os.fsync(file.fileno())
