# SPDX-License-Identifier: Apache-2.0
"""Stores pictures until they expire, in a folder that all processes of the server share.

A name has the time at which the picture expires, a hash of its caller, and a random part that nobody can guess. All
methods block, and may raise `OSError`: call them in a thread.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastapi_triton.core import atomic_file, file_lock
from fastapi_triton.core.settings import Settings

# As long as OpenAI's own.
KEEP_S = 3600
# Looking through the folder must stay fast.
MAX_PICTURES = 2000
_NAME = re.compile(r"(?P<expires>[0-9a-f]{8})-(?P<caller>[0-9a-f]{8})-[0-9a-f]{32}\.[a-z]{3,4}")
# Also the unfinished file of a process that was killed.
_FILE = re.compile(rf"\.?{_NAME.pattern}(?:\.\w+)?")


class StoreFullError(OSError):
    """The pictures of one request exceed the store's limit."""


@dataclass(frozen=True, slots=True)
class _Stored:
    path: Path
    expires: int
    caller: str
    num_bytes: int


class PictureStore:
    """At most `max_bytes` of pictures, and `MAX_PICTURES`. To make room, it removes the oldest picture of the caller
    that has the most of what is short: bytes or pictures.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0  # when this process last looked
        self._folder = folder

    @classmethod
    def of(cls, settings: Settings) -> "PictureStore":
        """In the folder for jobs, which several machines may share, or in a folder of this user on this machine."""
        if settings.jobs_folder:
            folder = Path(settings.jobs_folder).absolute() / "pictures"
        else:
            folder = Path(tempfile.gettempdir()) / f"fastapi-triton-pictures-{os.getuid()}"
        return cls(folder, settings.picture_urls_max_bytes)

    def prepare(self) -> bytes:
        """Create the folder. Returns the secret that signs URLs: all processes that share the folder have the same."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{self._folder} is not a folder of this user")
        self._folder.chmod(0o700)
        secret = self._folder / "secret"
        if not secret.exists():
            atomic_file.create(secret, secrets.token_bytes(32))  # does nothing if another process was faster
        return secret.read_bytes()

    def add(self, pictures: Sequence[tuple[bytes, str]], *, caller: str) -> list[str]:
        """Store pictures, each with its format. Returns their names.

        Raises:
            StoreFullError: they exceed the limit.
        """
        key = hmac.digest(self.prepare(), caller.encode(), hashlib.sha256).hex()[:8]
        needed = sum(len(data) for data, _ in pictures)
        if needed > self.max_bytes:
            raise StoreFullError(f"{needed:,} bytes of pictures exceed picture_urls_max_bytes, {self.max_bytes:,}")
        expires = int(time.time()) + KEEP_S
        names = [f"{expires:08x}-{key}-{secrets.token_hex(16)}.{extension or 'bin'}" for _, extension in pictures]
        with self._locked():
            self._make_room(needed, len(pictures))
            for name, (data, _) in zip(names, pictures, strict=True):
                with atomic_file.replacing(self._folder / name, is_durable=False) as file:
                    file.write(data)
            self.num_bytes += needed
        return names

    def open(self, name: str) -> BinaryIO | None:
        """The file of the picture with a valid name; None if it was removed."""
        try:
            return (self._folder / name).open("rb")
        except FileNotFoundError:
            return None

    def sweep(self) -> None:
        """Remove expired pictures, also those of earlier processes."""
        if self._folder.is_dir():
            self.prepare()
            with self._locked():
                self._make_room(0, 0)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._folder / "lock"
        lock.touch(mode=0o600)
        with file_lock.held(lock, wait=True):
            yield

    def _make_room(self, num_bytes: int, count: int) -> None:
        now = time.time()
        by_caller: defaultdict[str, list[_Stored]] = defaultdict(list)
        for each in sorted(self._stored(), key=lambda stored: stored.expires, reverse=True):
            if not now < each.expires <= now + 2 * KEEP_S:  # or the clock was wrong when it was stored
                each.path.unlink(missing_ok=True)
            else:
                by_caller[each.caller].append(each)
        sizes = {caller: sum(each.num_bytes for each in stored) for caller, stored in by_caller.items()}
        left = sum(map(len, by_caller.values()))
        while left and ((is_full := sum(sizes.values()) + num_bytes > self.max_bytes) or left + count > MAX_PICTURES):
            counts = {caller: len(stored) for caller, stored in by_caller.items()}
            largest = max(counts, key=sizes.__getitem__ if is_full else counts.__getitem__)
            oldest = by_caller[largest].pop()
            oldest.path.unlink(missing_ok=True)
            sizes[largest] -= oldest.num_bytes
            left -= 1
        self.num_bytes = sum(sizes.values())

    def _stored(self) -> Iterator[_Stored]:
        with os.scandir(self._folder) as entries:
            for entry in entries:
                found = _FILE.fullmatch(entry.name)
                if found is not None:
                    size = entry.stat(follow_symlinks=False).st_size
                    yield _Stored(Path(entry.path), int(found["expires"], 16), found["caller"], size)


def expiry(name: str) -> int | None:
    """The time at which the picture with this name expires, in seconds since 1970; None if it is not a name."""
    found = _NAME.fullmatch(name)
    return int(found["expires"], 16) if found else None
