# SPDX-License-Identifier: Apache-2.0
"""The server that paints the pictures of the documentation."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.live.server import running


@contextmanager
def server_at(url: str | None) -> Iterator[str]:
    """The URL of a running server, or of a new one with the embedded Triton and the demo checkpoint."""
    if url is not None:
        yield url.rstrip("/")
        return
    with running() as server:
        yield server.url
