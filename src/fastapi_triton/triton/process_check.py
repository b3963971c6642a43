# SPDX-License-Identifier: Apache-2.0
"""Finds out from Triton whether the stub processes of Python models are running.

A current Triton reports a model with a dead stub process as not ready. Triton 2.51 still reports it as ready. There, a
request that fails with Triton's message for a dead process proves the death if the statistics show no execution of it:
an error that the model itself returns, whatever its text, is an execution. When the statistics show new executions, or
begin at 0, the model is back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import orjson

from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.triton.error_mapping import STOPPING_TEXTS, require_triton
from fastapi_triton.triton.model_health import Counts, ModelProcesses, death
from fastapi_triton.triton.transport.connection import ResponseHead

logger = logging.getLogger(__name__)

Ask = Callable[[str, str], Awaitable[tuple[ResponseHead, memoryview]]]

# Triton counts an execution just after it has responded.
SETTLE_S = 0.2
# With one of these in its config, several requests may be one execution. Then the statistics prove that a request
# was not executed only if there was no execution at all.
_JOINING = ("dynamic_batching", "sequence_batching")
# From this version on (26.01) the readiness of a model is reliable.
_HONEST = (2, 65)


class ProcessCheck:
    """Keeps `processes` up to date. `ask` sends a status request, as `HTTPTriton.status_request` does."""

    def __init__(self, processes: ModelProcesses, ask: Ask) -> None:
        self._processes = processes
        self._ask = ask

    async def check(self) -> None:
        """Check dead models, and those that had requests since the last check."""
        for model in self._processes.to_look_at():
            try:
                if await self.ready(model):
                    await self._count(model)
            except FastAPITritonError as error:
                logger.debug("model %s: %s", model, error.detail)

    async def ready(self, model: str) -> bool:
        """Whether Triton has the model ready.

        Raises:
            ModelNotReadyError: the stub process is dead.
            FastAPITritonError: Triton does not respond.
        """
        path = _path(model)
        if not await self._is_called_ready(path):
            if await self._has_died(path):
                self._processes.died(model, is_admitted=True)
                raise death(model)
            self._processes.unready(model)
            return False
        if self._processes.ready(model):
            await self._count(model)
        if self._processes.is_dead(model):
            raise death(model)
        return True

    async def confirms(self, model: str, sent_at: float) -> bool:
        """Whether the stub process is dead, after a request of this time failed with Triton's message for it.

        The model itself may have returned this message, with a client's text in it. Then it has executed the request.
        """
        try:
            if not await self.ready(model) or await self._is_honest():
                return False
            config = await self._config(_path(model))
            is_joining = not config or any(each in config for each in _JOINING)
            for pause_s in (0.0, SETTLE_S):
                await asyncio.sleep(pause_s)
                counts = await self._count(model)
                if self._processes.is_dead(model):
                    return True  # another check found it meanwhile
                if is_joining and self._processes.has_run_since(model, sent_at):
                    return False
                if not is_joining and not self._processes.has_failed_unexecuted_since(model, sent_at):
                    return False
        except FastAPITritonError:
            return self._processes.is_dead(model)
        self._processes.died(model, counts)
        return True

    async def _is_called_ready(self, path: str) -> bool:
        head, body = await self._ask("GET", f"{path}/ready")
        if head.status != 200:
            require_triton(head.status, bytes(body))
        return head.status == 200

    async def _has_died(self, path: str) -> bool:
        """Whether Triton has loaded a Python model and reports it as not ready, but not because it is still loading."""
        config = await self._config(path)
        if config.get("backend") != "python":
            return False
        head, body = await self._ask("GET", f"{path}/ready")
        if head.status != 200:
            require_triton(head.status, bytes(body))
        return head.status != 200 and not any(each.encode() in bytes(body) for each in STOPPING_TEXTS)

    async def _config(self, path: str) -> dict[str, Any]:
        """The config of a loaded model; empty if it cannot be read."""
        head, body = await self._ask("GET", f"{path}/config")
        try:
            config = orjson.loads(body) if head.status == 200 else {}
        except ValueError:
            return {}
        return config if isinstance(config, dict) else {}

    async def _count(self, model: str) -> Counts | None:
        head, body = await self._ask("GET", f"{_path(model)}/stats")
        if head.status != 200:
            return None
        try:
            counts = Counts.of_statistics(bytes(body))
        except (ValueError, KeyError, TypeError) as error:
            logger.error("model %s: its statistics cannot be read: %r", model, error)
            return None
        self._processes.counted(model, counts, asyncio.get_running_loop().time())
        return counts

    async def _is_honest(self) -> bool:
        """Whether this Triton reports a model with a dead stub process as not ready."""
        head, body = await self._ask("GET", "/v2")
        try:
            major, minor, *_ = str(orjson.loads(body)["version"]).split(".")
            return head.status == 200 and (int(major), int(minor)) >= _HONEST
        except (ValueError, KeyError, TypeError):
            return False


def _path(model: str) -> str:
    return f"/v2/models/{quote(model, safe='')}"
