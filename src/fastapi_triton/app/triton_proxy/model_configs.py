# SPDX-License-Identifier: Apache-2.0
"""The configs of the models in `/v2` requests, read from Triton at most once in a few seconds."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson

from fastapi_triton.core.errors import ContractError
from fastapi_triton.triton.model_config import ModelConfig, from_server
from fastapi_triton.triton.transport.connection import ResponseHead

logger = logging.getLogger(__name__)

# A model may be loaded anew, with another config, at any time.
_FRESH_S = 5.0
# A request that does not fit a config has it read again, but not more often than this.
_SURELY_FRESH_S = 1.0
_MAX_KEPT = 1024
_MAX_FETCHES = 8

Ask = Callable[[str, str], Awaitable[tuple[ResponseHead, memoryview]]]


class NoConfigError(Exception):
    """Triton's answer if it has no config for a model, which it mostly does not know."""

    def __init__(self, head: ResponseHead, body: bytes) -> None:
        super().__init__(head.status)
        self.head = head
        self.body = body


@dataclass(frozen=True, slots=True)
class _Known:
    config: ModelConfig | None
    asked_at: float


class ModelConfigs:
    """Configs by the model's path, `/v2/models/NAME` or with a version. `ask` sends a GET to Triton."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._limit = asyncio.Semaphore(_MAX_FETCHES)

    async def get(self, path: str) -> ModelConfig | None:
        """A config that is some seconds old at most; None: Triton does not show it, or it cannot be read.

        Raises:
            NoConfigError: Triton refuses.
            TritonUnavailableError, DeadlineExceededError: Triton does not answer.
        """
        return await self._no_older_than(_FRESH_S, path)

    async def again(self, path: str) -> ModelConfig | None:
        """The same for a request that does not fit the one that `get` gave."""
        return await self._no_older_than(_SURELY_FRESH_S, path)

    async def _no_older_than(self, seconds: float, path: str) -> ModelConfig | None:
        known = self._fresh(path, seconds)
        if known is None:
            async with self._limit:
                known = self._fresh(path, seconds) or await self._fetch(path)
        return known.config

    def _fresh(self, path: str, seconds: float) -> _Known | None:
        known = self._known.get(path)
        return known if known is not None and time.monotonic() - known.asked_at < seconds else None

    async def _fetch(self, path: str) -> _Known:
        asked_at = time.monotonic()
        head, body = await self._ask("GET", f"{path}/config")
        if head.status not in (200, 403):
            self._known.pop(path, None)
            raise NoConfigError(head, bytes(body))
        known = self._known[path] = _Known(_read(bytes(body)) if head.status == 200 else None, asked_at)
        self._known.move_to_end(path)
        while len(self._known) > _MAX_KEPT:
            self._known.popitem(last=False)
        return known


def _read(body: bytes) -> ModelConfig | None:
    try:
        return from_server(orjson.loads(body))
    except (ContractError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("a model's config cannot be read: %r", error)
        return None
