# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server on a free port for one test."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.serving import free_port


def _programs() -> Path | None:
    """The folder of `initdb` and `postgres`. On Debian it is not on the PATH."""
    found = shutil.which("initdb")
    return Path(found).parent if found else max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of the server. Skips the test if PostgreSQL is not installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    port = free_port()
    user = "postgres" if os.getuid() == 0 else None  # PostgreSQL does not run as root
    if user:
        shutil.chown(folder, user)
    data = str(folder / "data")
    try:
        subprocess.run(
            [str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"],
            user=user,
            check=True,
            capture_output=True,
        )
        options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", str(folder), "-F"]
        server = subprocess.Popen(
            [str(programs / "postgres"), "-D", data, *options], user=user, stderr=subprocess.PIPE, text=True
        )
        try:
            if server.stderr is None:
                raise RuntimeError("started without a pipe")
            for line in server.stderr:
                if "ready to accept connections" in line:
                    break
            yield f"postgresql://postgres@127.0.0.1:{port}/jobs"
        finally:
            server.terminate()
            server.communicate(timeout=60)
    finally:
        shutil.rmtree(folder)
