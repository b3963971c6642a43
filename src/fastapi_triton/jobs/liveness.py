# SPDX-License-Identifier: Apache-2.0
"""Which of the processes that share a folder of jobs are alive: each holds a lock for as long as it lives."""

import uuid
from contextlib import ExitStack, suppress
from pathlib import Path

from fastapi_triton.core import file_lock


class Executors:
    """This process's lock, and a check of the others'. The folder must be on a file system with `flock`."""

    def __init__(self, folder: Path) -> None:
        self.id = uuid.uuid4().hex
        self._folder = folder
        self._lock: ExitStack | None = None

    def start(self) -> None:
        """Take this process's lock."""
        if self._lock is not None:
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        # Locked under a hidden name first, so that no process takes it for a dead one's before it is locked.
        path = self._folder / f".{self.id}"
        path.touch(mode=0o600)
        with ExitStack() as stack:
            stack.enter_context(file_lock.held(path))
            path.rename(self._folder / self.id)
            self._lock = stack.pop_all()

    def stop(self) -> None:
        """Release the lock: other processes may take over this one's jobs."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def dead(self) -> list[str]:
        """The ids of processes that hold their lock no longer. `forget` each once its jobs are requeued."""
        found = []
        for path in self._folder.glob("[!.]*"):
            if path.name == self.id:
                continue
            with suppress(FileNotFoundError), file_lock.held(path) as is_held:
                if is_held:
                    found.append(path.name)
        return found

    def forget(self, executor_id: str) -> None:
        (self._folder / executor_id).unlink(missing_ok=True)
