# SPDX-License-Identifier: Apache-2.0
"""Watches the stub processes, in which Triton runs Python models: Triton does not notice when one dies."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from fastapi_triton.core.background import BackgroundTask

STUB = b"triton_python_backend_stub"
# A Triton that stops ends its stub processes first: wait this long before a dead one counts.
SETTLE_S = 1.0


class StubMonitor:
    """Calls `on_death` with the model's name when a stub process of a loaded model ends before Triton does."""

    def __init__(self, folder: Path, on_death: Callable[[str], None]) -> None:
        self._folder = str(folder).encode()
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._pidfds: dict[int, int] = {}  # by pid
        self._settling: set[asyncio.TimerHandle] = set()
        self._task = BackgroundTask(
            "model process watch", consequence="Triton may not be restarted when the process of a model dies."
        )
        self._listed = ExitStack()
        self._listed.enter_context(self._task.listed())

    def loaded(self, model: str) -> None:
        """Watch the processes of a model that Triton has loaded: from now on they must run as long as Triton does."""
        with self._task.attempt():
            for pid in self._pids(model):
                with suppress(ProcessLookupError):
                    self._pidfds[pid] = descriptor = os.pidfd_open(pid)
                    self._loop.add_reader(descriptor, self._ended, pid, model)

    def close(self) -> None:
        """Stop watching, since Triton ends and its stub processes with it."""
        self._listed.close()
        for pid in list(self._pidfds):
            self._forget(pid)
        for timer in self._settling:
            timer.cancel()

    def _pids(self, model: str) -> Iterator[int]:
        instance = re.compile(re.escape(model.encode()) + rb"_\d+(_\d+)?")
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                arguments = file.read_bytes().split(b"\0")
                is_ours = arguments[0].endswith(STUB) and any(self._folder in each for each in arguments)
                pid = int(file.parent.name)
                if is_ours and pid not in self._pidfds and any(map(instance.fullmatch, arguments)):
                    yield pid

    def _ended(self, pid: int, model: str) -> None:
        self._forget(pid)
        self._settling.add(self._loop.call_later(SETTLE_S, self._on_death, model))

    def _forget(self, pid: int) -> None:
        descriptor = self._pidfds.pop(pid)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
