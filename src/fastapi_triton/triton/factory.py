# SPDX-License-Identifier: Apache-2.0
"""Which Triton an app fronts that is given none: the one at `settings.triton_url`, unless who runs the app says more.

An app's module makes its client when it is imported, long before it knows that it runs as a part of a cluster.
"""

from collections.abc import Callable
from contextvars import ContextVar

from fastapi_triton.core.settings import Settings
from fastapi_triton.triton.client import TritonClient
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.transport.credentials import Access


def over_http(settings: Settings) -> TritonClient:
    """The Triton at `settings.triton_url`."""
    return HTTPTriton(
        settings.triton_url,
        connect_timeout_s=settings.connect_timeout_s,
        request_timeout_s=settings.request_timeout_s,
        heartbeat_s=settings.watch_interval_s,
        access=Access.of(settings),
    )


fronted: ContextVar[Callable[[Settings], TritonClient]] = ContextVar("fronted", default=over_http)
