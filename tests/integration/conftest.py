# SPDX-License-Identifier: Apache-2.0
"""Real servers: one of each app for all tests that only ask it, and fresh ones for those that kill it."""

import shutil
import signal
import sys
from collections.abc import Callable, Iterator

import pytest
from serving import ECHO_APP, ROOT, Server, serving


@pytest.fixture(scope="session")
def scribble_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The clone's own app and model repository, from a folder with a space."""
    folder = tmp_path_factory.mktemp("a newcomer's folder")
    shutil.copy(ROOT / "main.py", folder)
    (folder / "models").symlink_to(ROOT / "models")
    with serving("--embedded", folder=folder) as server:
        yield server.wait_until_ready()


@pytest.fixture(scope="session")
def echo_server() -> Iterator[Server]:
    with serving("--embedded", folder=ECHO_APP) as server:
        yield server.wait_until_ready()


@pytest.fixture
def echo_servers() -> Iterator[Callable[..., Server]]:
    """Servers of one's own, to be killed."""
    servers: list[Server] = []

    def start(*arguments: str, port: int | None = None) -> Server:
        server = Server(
            [sys.executable, "-m", "fastapi_triton", "serve", "--embedded", *arguments], folder=ECHO_APP, port=port
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop(signal.SIGKILL)
