# SPDX-License-Identifier: Apache-2.0
"""The file that API keys are in, read anew whenever it changes."""

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.middleware.auth import keys
from fastapi_triton.middleware.auth.keys import KeyFileError, Keys

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 0.5
# A file of keys is small: 10,000 keys take 2 MB.
MAX_BYTES = 16 * 1024 * 1024


class KeyFile:
    """The API keys in a file. `keys` are those of the last content that could be read and parsed.

    The file is read at every look, since modification times are too coarse to compare, and it is small. A new content
    takes effect when two looks in a row find it, since an editor may still be writing. While the file cannot be used,
    the last good keys stay valid, revoked ones too: `task` says so in the log, `/health/ready` and the metrics.
    """

    def __init__(self, path: Path, *, look_interval_s: float = LOOK_INTERVAL_S) -> None:
        self.path = path
        self.keys = Keys()
        self.task = BackgroundTask(
            "API key file",
            consequence="The API keys from before stay valid, those revoked since then too.",
            expected=(OSError, KeyFileError),
            longest_backoff_s=look_interval_s,
        )
        self._taken = b""
        self._seen: bytes | None = None  # at the last look
        self._look_interval_s = look_interval_s

    def load(self) -> None:
        """Read it for the first time.

        Raises:
            KeyFileError: it is not there, or broken; the text is for a person.
        """
        try:
            self._taken = _read(self.path)
            self.keys = _parsed(self._taken)
        except (OSError, KeyFileError) as error:
            raise KeyFileError(f"the API keys in {self.path} cannot be used: {_reason(error)}") from None
        if self.keys:
            logger.info("%d API keys in %s", len(self.keys), self.path)
        else:
            logger.warning(
                "there is no API key in %s, so nobody may call; `fastapi-triton keys add` makes one", self.path
            )

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Loaded, and kept up to date.

        Raises:
            KeyFileError: it cannot be used to begin with.
        """
        await asyncio.to_thread(self.load)
        async with self.task.repeating(self._look_once):
            yield

    async def _look_once(self) -> float:
        await asyncio.to_thread(self.look)
        return self._look_interval_s

    def look(self) -> None:
        """Take over what the file holds now, if the last look found the same.

        Raises:
            KeyFileError: the file cannot be used; `keys` are unchanged.
        """
        try:
            content = _read(self.path)
            was_there, self._seen = content == self._seen, content
            if was_there and content != self._taken:
                self.keys, self._taken = _parsed(content).continuing(self.keys), content
                logger.info("%s has changed: %d API keys", self.path, len(self.keys))
        except (OSError, KeyFileError) as error:
            raise KeyFileError(f"{self.path} is BROKEN: {_reason(error)}") from None


def _read(path: Path) -> bytes:
    """The content of a regular file. Anything else, such as a pipe, could block or never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise KeyFileError("it is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise KeyFileError(f"it is larger than {MAX_BYTES // 1024**2} MiB")
    return content


def _parsed(content: bytes) -> Keys:
    try:
        return keys.parse(content.decode())
    except UnicodeDecodeError:
        raise KeyFileError("it is not UTF-8") from None


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
