# SPDX-License-Identifier: Apache-2.0
"""Finds dead processes among those that share a folder of jobs: each process holds a lock as long as it lives."""

import uuid
from contextlib import ExitStack, suppress
from pathlib import Path

from fastapi_triton.core import file_lock


class Executors:
    """Holds this process's lock and checks the locks of others. The folder must be on a file system with `flock`."""

    def __init__(self, folder: Path) -> None:
        self.id = uuid.uuid4().hex
        self._folder = folder
        self._lock: ExitStack | None = None

    def start(self) -> None:
        """Take this process's lock."""
        if self._lock is not None:
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        # Locked under a hidden name first: an unlocked file would look like that of a dead process.
        path = self._folder / f".{self.id}"
        path.touch(mode=0o600)
        with ExitStack() as stack:
            stack.enter_context(file_lock.held(path))
            path.rename(self._folder / self.id)
            self._lock = stack.pop_all()

    def stop(self) -> None:
        """Release the lock. Other processes may then take over this process's jobs."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def dead(self) -> list[str]:
        """The ids of dead processes. Call `forget` for each when its jobs are requeued."""
        found = []
        for path in self._folder.glob("[!.]*"):
            if path.name == self.id:
                continue
            with suppress(FileNotFoundError), file_lock.held(path) as is_held:
                if is_held:
                    found.append(path.name)
        return found

    def forget(self, executor_id: str) -> None:
        """Remove the lock file of a dead process."""
        (self._folder / executor_id).unlink(missing_ok=True)
