# SPDX-License-Identifier: Apache-2.0
"""A lock that a measurement holds. While any process of the user holds it, the training of `demo` pauses."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(tempfile.gettempdir())
LONGEST_STEP_S = 3.0  # of a training, which pauses between two steps


@contextmanager
def measurement() -> Iterator[None]:
    """Several measurements can hold the lock. The first statement runs when a training has paused."""
    with _lock_file("measurement").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        if _is_held(_lock_file("training")):
            time.sleep(LONGEST_STEP_S)
        yield


@contextmanager
def training() -> Iterator[None]:
    """Announce a training, so that measurements wait until its step ends."""
    with _lock_file("training").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def wait_for_measurements() -> None:
    """Return when no measurement runs."""
    with _lock_file("measurement").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # closing the file releases it


def _lock_file(what: str) -> Path:
    return FOLDER / f"fastapi-triton-{what}-{os.getuid()}.lock"


def _is_held(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
