# SPDX-License-Identifier: Apache-2.0
"""A real Triton that loads a model only when it is asked to, to see whether it accepts the model's config.

Its backend `inert` loads in a millisecond, whereas a Python model takes more than a second.
"""

import asyncio
import contextlib
import logging
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import pytest

from fastapi_triton.embedded.stub_monitor import StubMonitor
from fastapi_triton.embedded.triton_process import EmbeddedTriton

SOURCE = Path(__file__).with_name("inert_backend.c")
INERT = "inert"
# Triton 2.51 hangs when it unloads about one in fifty models with a sequence batcher.
STUCK_S = 2


def compile_inert_backend(folder: Path) -> Path:
    """Compile the backend into the folder. Skips the test without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler (.ci/packages cc)")
    library = folder / f"libtriton_{INERT}.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return library


class NoMonitor(StubMonitor):
    """Watches nothing: unloading a Python model ends its processes."""

    def loaded(self, model: str) -> None:
        pass


class PollLog(logging.Handler):
    """The reasons in Triton's log why it cannot read a model's folder, which its responses do not have."""

    RESPONSE = "failed to poll"

    def __init__(self) -> None:
        super().__init__()
        self.reasons: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        if (message := record.getMessage()).startswith("Poll failed"):
            self.reasons.put_nowait(message)

    async def first_reason(self) -> str:
        """The reason, which may come later than the response. Forgets the others."""
        async with asyncio.timeout(10):
            reason = await self.reasons.get()
        while not self.reasons.empty():
            self.reasons.get_nowait()
        return reason


class LoadingTriton(EmbeddedTriton):
    """Has the backend `inert`, whose library is `inert_library`."""

    stub_monitor = NoMonitor
    inert_library: Path
    _poll_log: PollLog

    async def __aenter__(self) -> Self:
        self._poll_log = PollLog()
        logging.getLogger("triton").addHandler(self._poll_log)
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        logging.getLogger("triton").removeHandler(self._poll_log)

    def _command(self, folder: Path, shared_memory_prefix: str) -> list[str]:
        backend = folder / "backends" / INERT
        backend.mkdir()
        (backend / self.inert_library.name).symlink_to(self.inert_library)
        return [
            *super()._command(folder, shared_memory_prefix),
            "--model-control-mode=explicit",
            "--exit-timeout-secs=1",
        ]

    async def load(self, session: aiohttp.ClientSession, model: str) -> str:
        """Load the model. Returns Triton's reason if it refuses the model, else "". The session's base is our `url`."""
        async with session.post(f"/v2/repository/models/{model}/load", json={}) as response:
            if response.status != 200:
                reason = str((await response.json())["error"])
                return await self._poll_log.first_reason() if PollLog.RESPONSE in reason else reason
        async with session.get(f"/v2/models/{model}/config") as response:
            if "sequence_batching" in await response.json():
                await asyncio.sleep(0.05)  # Triton hangs if it unloads one before its thread runs; there is no event
        return ""

    async def unload_all(self, session: aiohttp.ClientSession) -> None:
        """Unload every model, and wait until Triton has done so.

        Also those that failed to load: Triton keeps their configs, and uses them if it cannot read the next one.
        Does not wait for stuck models, since Triton still loads others.
        """
        async with session.post("/v2/repository/index", json={}) as response:
            names = {model["name"] for model in await response.json()}
        for name in names:
            async with session.post(f"/v2/repository/models/{name}/unload") as response:
                assert response.status == 200, await response.text()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STUCK_S):
                await self._until_unloaded(session)

    async def _until_unloaded(self, session: aiohttp.ClientSession) -> None:
        while True:
            async with session.post("/v2/repository/index", json={}) as response:
                if not any(model.get("state") in ("READY", "UNLOADING") for model in await response.json()):
                    return
            await asyncio.sleep(0.01)  # there is no event for it

    async def until_live(self, session: aiohttp.ClientSession) -> None:
        """Wait until Triton responds."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with session.get("/v2/health/live") as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(0.05)  # its port is not open yet; there is no event for it
