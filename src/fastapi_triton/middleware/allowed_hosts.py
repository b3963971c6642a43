# SPDX-License-Identifier: Apache-2.0
"""Rejects requests whose `Host` header is not one of the server's names, to prevent DNS rebinding.

(Starlette's `TrustedHostMiddleware` responds in plain text, and rejects health probes, which call an IP address.)
"""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_triton.core.errors import UnreadableRequestError, shown
from fastapi_triton.core.paths import is_probe, route_path
from fastapi_triton.core.problem_details import send_error


class AllowedHostsMiddleware:
    """`hosts` are names without a port: `example.com`, `10.0.0.7`, `::1`. `*.example.com` allows all its subdomains."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app = app
        self._names = frozenset(each.lower() for each in hosts if not each.startswith("*."))
        self._suffixes = tuple(each[1:].lower() for each in hosts if each.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and not self._is_allowed(scope):
            host = shown(b", ".join(_host_headers(scope)).decode("latin-1"))
            error = UnreadableRequestError(
                f"The `Host` header is `{host}`, which is not a name of this server. Use the server's own name.",
                code="unknown_host",
            )
            await send_error(error, scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        values = _host_headers(scope)
        host = _without_port(values[0].decode("latin-1")) if len(values) == 1 else ""
        return (
            host in self._names
            or (host.endswith(self._suffixes) if self._suffixes else False)
            or is_probe(route_path(scope))
        )


def _host_headers(scope: Scope) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == b"host"]


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
