# SPDX-License-Identifier: Apache-2.0
"""Caches the configs of the models in `/v2` requests for a few seconds."""

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

# Triton may reload a model with another config at any time.
_FRESH_S = 5.0
# If a request does not fit a config of at least this age, the config is read again.
_RETRY_FRESH_S = 1.0
_MAX_KEPT = 1024
_MAX_FETCHES = 8

SendRequest = Callable[[str, str], Awaitable[tuple[ResponseHead, memoryview]]]


class NoConfigError(Exception):
    """Triton's error response to the request for a config, mostly because it does not know the model."""

    def __init__(self, head: ResponseHead, body: bytes) -> None:
        super().__init__(head.status)
        self.head = head
        self.body = body


@dataclass(frozen=True, slots=True)
class _Cached:
    config: ModelConfig | None
    requested_at: float


class ModelConfigs:
    """Configs by the model's path, `/v2/models/NAME` or with a version. `send_request` sends a GET to Triton."""

    def __init__(self, send_request: SendRequest) -> None:
        self._send_request = send_request
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._limit = asyncio.Semaphore(_MAX_FETCHES)

    async def get(self, path: str) -> ModelConfig | None:
        """A config that is at most some seconds old; None: Triton denies access to it, or it cannot be read.

        Raises:
            NoConfigError: Triton responds with an error.
            TritonUnavailableError, DeadlineExceededError: Triton does not respond.
        """
        return await self._no_older_than(_FRESH_S, path)

    async def again(self, path: str) -> ModelConfig | None:
        """The same for a request that does not fit the config from `get`: a newer one."""
        return await self._no_older_than(_RETRY_FRESH_S, path)

    async def _no_older_than(self, seconds: float, path: str) -> ModelConfig | None:
        cached = self._fresh(path, seconds)
        if cached is None:
            async with self._limit:
                cached = self._fresh(path, seconds) or await self._fetch(path)
        return cached.config

    def _fresh(self, path: str, seconds: float) -> _Cached | None:
        cached = self._cache.get(path)
        return cached if cached is not None and time.monotonic() - cached.requested_at < seconds else None

    async def _fetch(self, path: str) -> _Cached:
        requested_at = time.monotonic()
        head, body = await self._send_request("GET", f"{path}/config")
        if head.status not in (200, 403):
            self._cache.pop(path, None)
            raise NoConfigError(head, bytes(body))
        config = _read(path, bytes(body)) if head.status == 200 else None
        cached = self._cache[path] = _Cached(config, requested_at)
        self._cache.move_to_end(path)
        while len(self._cache) > _MAX_KEPT:
            self._cache.popitem(last=False)
        return cached


def _read(path: str, body: bytes) -> ModelConfig | None:
    try:
        return from_server(orjson.loads(body))
    except (ContractError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("the config of %s cannot be read, so requests are not compared with it: %r", path, error)
        return None
