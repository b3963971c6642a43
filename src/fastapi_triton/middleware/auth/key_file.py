# SPDX-License-Identifier: Apache-2.0
"""The file that holds the API keys. It is read again when it changes."""

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

POLL_INTERVAL_S = 0.5
# A file of keys is small: 10,000 keys take 2 MB.
MAX_BYTES = 16 * 1024 * 1024


class KeyFile:
    """The API keys in a file. `keys` are those of the last valid content.

    Every poll reads the whole file: it is small, and modification times are too coarse to compare. New content takes
    effect when two polls in a row find it, since an editor may still be writing. While the file is invalid, the last
    valid keys stay in use, even if they were revoked since. The log, `/health/ready` and the metrics report `task`.
    """

    def __init__(self, path: Path, *, poll_interval_s: float = POLL_INTERVAL_S) -> None:
        self.path = path
        self.keys = Keys()
        self.task = BackgroundTask(
            "API key file",
            consequence="The last valid API keys stay in use, even if they were revoked since.",
            expected=(OSError, KeyFileError),
            longest_backoff_s=poll_interval_s,
        )
        self._file = Reloaded(lambda: _read(path), self._take, must_settle=True)
        self._poll_interval_s = poll_interval_s

    def load(self) -> None:
        """Read the file for the first time.

        Raises:
            KeyFileError: the file is missing or invalid; the message is for the user.
        """
        try:
            self._file.get()
        except (OSError, KeyFileError) as error:
            raise KeyFileError(f"the API keys in {self.path} cannot be used: {_reason(error)}") from None
        if not self.keys:
            logger.warning(
                "there is no API key in %s, so requests that need one fail; add one with `fastapi-triton keys add`",
                self.path,
            )

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Load the file, and keep the keys up to date for the duration of the block.

        Raises:
            KeyFileError: the file is missing or invalid at the start.
        """
        await asyncio.to_thread(self.load)
        async with self.task.repeating(self._poll_once):
            yield

    async def _poll_once(self) -> float:
        await asyncio.to_thread(self.poll)
        return self._poll_interval_s

    def poll(self) -> None:
        """Read the file, and use its content if the last poll found the same.

        Raises:
            KeyFileError: the file is missing or invalid; `keys` are unchanged.
        """
        try:
            self._file.get()
        except (OSError, KeyFileError) as error:
            raise KeyFileError(f"{self.path} cannot be used: {_reason(error)}") from None

    def _take(self, content: bytes) -> None:
        try:
            self.keys = keys.parse(content.decode()).with_buckets_of(self.keys)
        except UnicodeDecodeError:
            raise KeyFileError("it is not UTF-8") from None
        logger.info("loaded %d API keys from %s", len(self.keys), self.path)


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
