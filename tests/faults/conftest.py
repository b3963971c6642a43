# SPDX-License-Identifier: Apache-2.0
"""One server for all faults. After each fault it must work as before."""

import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from support import fault_load
from support.serving import COUNT_APP, ECHO_APP, Server, serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    shutil.copy(Path(__file__).with_name("fault_app.py"), folder / "main.py")
    for app in (ECHO_APP, COUNT_APP):
        shutil.copytree(app / "models", folder / "models", dirs_exist_ok=True)
    config = folder / "models" / "echo" / "config.pbtxt"
    assert "max_queue_size: 2" in config.read_text()  # enough for the echo app's own test, but too small for the load
    config.write_text(config.read_text().replace("max_queue_size: 2", "max_queue_size: 10"))
    return folder


@pytest.fixture(scope="module")
def embedded(folder: Path) -> Iterator[Server]:
    with serving("--embedded", folder=folder) as server:
        yield server.wait_until_ready()


@pytest.fixture
async def server(embedded: Server) -> AsyncIterator[Server]:
    """The server. After the test it must be ready, and hold no more resources than before."""
    await fault_load.until_ready(embedded)
    async with fault_load.load(embedded.url):  # opens the pooled connections and imports modules
        pass
    before = await fault_load.inner(embedded)
    yield embedded
    await fault_load.until_ready(embedded)
    await fault_load.until_settled(embedded, num_fds=before["num_fds"], rss=before["rss"])
    async with fault_load.load(embedded.url) as load:
        pass
    assert set(load.outcomes) == {"answered"}


@pytest.fixture
def frontends(embedded: Server, folder: Path) -> Iterator[Callable[..., Server]]:
    """Starts more frontends of the same Triton, directly or through a proxy."""
    servers: list[Server] = []

    def start(triton: str, *arguments: str) -> Server:
        command = [sys.executable, "-m", "fastapi_triton", "serve", "--triton", f"http://{triton}", *arguments]
        servers.append(Server(command, folder=folder))
        return servers[-1].wait_until_ready()

    yield start
    for each in servers:
        each.stop(signal.SIGKILL)
