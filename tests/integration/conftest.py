# SPDX-License-Identifier: Apache-2.0
"""Servers of the echo app: one for all tests that only ask it, and fresh ones for those that kill it."""

import signal
import sys
from collections.abc import Callable, Iterator

import pytest
from serving import ECHO_APP, Server, serving


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
