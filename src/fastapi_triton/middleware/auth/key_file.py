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
from fastapi_triton.core.file_watch import Reloaded
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
        self._file = Reloaded(lambda: _read(path), self._take, must_settle=True)
        self._look_interval_s = look_interval_s

    def load(self) -> None:
        """Read it for the first time.

        Raises:
            KeyFileError: it is not there, or broken; the text is for a person.
        """
        try:
            self._file.get()
        except (OSError, KeyFileError) as error:
            raise KeyFileError(f"the API keys in {self.path} cannot be used: {_reason(error)}") from None
        if not self.keys:
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
            self._file.get()
        except (OSError, KeyFileError) as error:
            raise KeyFileError(f"{self.path} is BROKEN: {_reason(error)}") from None

    def _take(self, content: bytes) -> None:
        try:
            self.keys = keys.parse(content.decode()).continuing(self.keys)
        except UnicodeDecodeError:
            raise KeyFileError("it is not UTF-8") from None
        logger.info("%d API keys in %s", len(self.keys), self.path)


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


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
