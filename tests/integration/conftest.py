# SPDX-License-Identifier: Apache-2.0
"""Servers of the echo and the count app: one each for all tests that only ask, and fresh ones for those that kill."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import odd_repository
import pytest
from perf_binary import perf_analyzer as perf_analyzer
from serving import COUNT_APP, ECHO_APP, Server, serving


@pytest.fixture(scope="session")
def echo_server() -> Iterator[Server]:
    with serving("--embedded", "--v2-compressed", folder=ECHO_APP) as server:
        yield server.wait_until_ready()


@pytest.fixture(scope="session")
def count_server() -> Iterator[Server]:
    """In front of a decoupled model."""
    with serving("--embedded", folder=COUNT_APP) as server:
        yield server.wait_until_ready()


@pytest.fixture(scope="session")
def odd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Generated endpoints only, in front of the odd models; no `main.py`."""
    folder = tmp_path_factory.mktemp("odd")
    odd_repository.make(folder / "models")
    with serving("--embedded", "--watch-interval-s", "0.2", folder=folder) as server:
        yield server.wait_until_ready()


@pytest.fixture
def echo_servers() -> Iterator[Callable[..., Server]]:
    """Servers of one's own, to be killed."""
    servers: list[Server] = []

    def start(*arguments: str, port: int | None = None, folder: Path = ECHO_APP) -> Server:
        server = Server(
            [sys.executable, "-m", "fastapi_triton", "serve", "--embedded", *arguments], folder=folder, port=port
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.drop()
