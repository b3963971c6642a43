# SPDX-License-Identifier: Apache-2.0
"""Reloads files that have changed: API keys, tokens, certificates."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

Version = TypeVar("Version")
Content = TypeVar("Content")


def stat_version(files: Iterable[Path]) -> tuple[tuple[int, int, int], ...]:
    """Modification times, inodes and sizes: a value that changes when a file is written or replaced.

    Raises:
        OSError: a file does not exist or cannot be accessed.
    """
    stats = [file.stat() for file in files]
    return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in stats)


class Reloaded(Generic[Version, Content]):
    """The content of files, reloaded when they change. Errors of `version` and `load` are raised; later calls retry.

    Args:
        version: returns a value that changes with the files.
        load: returns the content of that version.
        must_settle: load a changed version only after two calls saw it, since an editor may still be writing.
    """

    def __init__(
        self, version: Callable[[], Version], load: Callable[[Version], Content], *, must_settle: bool = False
    ) -> None:
        self._version = version
        self._load = load
        self._must_settle = must_settle
        self._seen: Version | None = None  # by the last call
        self._loaded: tuple[Version, Content] | None = None

    def get(self) -> Content:
        """The content, reloaded if the files have changed."""
        version = self._version()
        is_settled, self._seen = not self._must_settle or version == self._seen, version
        if self._loaded is None or (is_settled and version != self._loaded[0]):
            self._loaded = version, self._load(version)
        return self._loaded[1]
