# SPDX-License-Identifier: Apache-2.0
"""Which of the processes that share a folder of jobs are alive: each holds a lock, which ends when it does."""

import fcntl
import os
import uuid
from pathlib import Path


class Executors:
    """This process's lock, and a look at those of others. The folder must be on a file system with `flock`."""

    def __init__(self, folder: Path) -> None:
        self.id = uuid.uuid4().hex
        self._folder = folder
        self._lock: int | None = None

    def start(self) -> None:
        """From now on this process is seen to be alive."""
        if self._lock is not None:
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        # Locked under a name that nobody looks at, so that nobody takes it for a dead one's before it is locked.
        path = self._folder / f".{self.id}"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.rename(self._folder / self.id)

    def stop(self) -> None:
        """From now on it counts as dead, and others may take over what it left."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def dead(self) -> list[str]:
        """Those whose lock nobody holds. `bury` each once its jobs are taken over."""
        found = []
        for path in self._folder.glob("[!.]*"):
            if path.name == self.id:
                continue
            try:
                lock = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append(path.name)
            except BlockingIOError:
                pass
            finally:
                os.close(lock)
        return found

    def bury(self, executor_id: str) -> None:
        (self._folder / executor_id).unlink(missing_ok=True)
