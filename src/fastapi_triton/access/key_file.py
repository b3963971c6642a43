# SPDX-License-Identifier: Apache-2.0
"""The file that API keys are in, read anew whenever it changes."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi_triton.access import keys
from fastapi_triton.access.keys import KeyFileError, Keys
from fastapi_triton.background import going_on

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 0.5
# How often it is said that the file is broken, for as long as it is.
_REMINDER_S = 60.0


class KeyFile:
    """`keys` is what the file said when it was last whole.

    The file is read, not looked at for its time: it is small, and times are coarse. What has changed counts when it
    stays the same for one interval, since an editor may be writing it; a rename over it changes it at once.
    """

    def __init__(self, path: Path, *, look_interval_s: float = LOOK_INTERVAL_S) -> None:
        self.path = path
        self.keys = Keys()
        self._taken = b""
        self._seen: bytes | None = None  # at the last look
        self._trouble = ""
        self._until_reminder_s = 0.0
        self._look_interval_s = look_interval_s

    def load(self) -> None:
        """Read it for the first time.

        Raises:
            KeyFileError: it is not there, or broken; the text is for a person.
        """
        try:
            self._taken = self.path.read_bytes()
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
        trouble = "the API keys are no longer looked at for changes"
        async with going_on(self._watch(), name="API keys", trouble=trouble):
            yield

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._look_interval_s)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Take what the file holds now, once it has held it twice."""
        try:
            content = self.path.read_bytes()
            was_there, self._seen = content == self._seen, content
            if content == self._taken:
                self._trouble = ""
            elif was_there:
                self.keys, self._taken = _parsed(content).continuing(self.keys), content
                self._trouble = ""
                logger.info("%s has changed: %d API keys", self.path, len(self.keys))
        except (OSError, KeyFileError) as error:
            self._shout(_reason(error))

    def _shout(self, trouble: str) -> None:
        self._until_reminder_s -= self._look_interval_s
        if trouble != self._trouble or self._until_reminder_s <= 0:
            self._trouble, self._until_reminder_s = trouble, _REMINDER_S
            logger.error(
                "%s is BROKEN, so the API keys from before stay in force, revoked ones too: %s", self.path, trouble
            )


def _parsed(content: bytes) -> Keys:
    try:
        return keys.parse(content.decode())
    except UnicodeDecodeError:
        raise KeyFileError("it is not UTF-8") from None


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
