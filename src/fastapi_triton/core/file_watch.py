# SPDX-License-Identifier: Apache-2.0
"""What is loaded from files, and loaded again once they have changed: keys, tokens, certificates."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

Version = TypeVar("Version")
Content = TypeVar("Content")


def stat_version(files: Iterable[Path]) -> tuple[tuple[int, int, int], ...]:
    """Another value once one of the files was written or replaced: modification times, inodes and sizes.

    Raises:
        OSError: one of them cannot be looked at.
    """
    stats = [file.stat() for file in files]
    return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in stats)


class Reloaded(Generic[Version, Content]):
    """The content of files. Errors of `version` and `load` are raised, and the next call tries again.

    Args:
        version: a value that changes with the files.
        load: gives the content of that version.
        must_settle: load a changed version only when two calls in a row see it, since an editor may still be writing.
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
        """The content, loaded anew if the files have changed."""
        version = self._version()
        is_settled, self._seen = not self._must_settle or version == self._seen, version
        if self._loaded is None or (is_settled and version != self._loaded[0]):
            self._loaded = version, self._load(version)
        return self._loaded[1]
