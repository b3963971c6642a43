# SPDX-License-Identifier: Apache-2.0
"""The middleware that the settings enable, and its order.

From the outside: proxy headers, since all others depend on them; CORS, so that scripts can read errors too; security
headers; hosts; authentication. The request's record is outside of all. Disabled middleware is not installed.
"""

from pathlib import Path

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from fastapi_triton.core.settings import Settings
from fastapi_triton.middleware.allowed_hosts import AllowedHostsMiddleware
from fastapi_triton.middleware.auth.anonymous_clients import AnonymousClients
from fastapi_triton.middleware.auth.authentication import AddressMiddleware, APIKeyMiddleware
from fastapi_triton.middleware.auth.key_file import KeyFile
from fastapi_triton.middleware.auth.keys import Limits
from fastapi_triton.middleware.proxy_headers import Proxies, ProxyHeadersMiddleware
from fastapi_triton.middleware.security_headers import SecurityHeadersMiddleware

# The headers of our responses that a script may read.
_EXPOSED = (
    *("X-Request-ID", "X-Seed", "X-Info", "Server-Timing", "Retry-After", "Location", "WWW-Authenticate"),
    *("Preference-Applied", "Inference-Header-Content-Length"),
)
_METHODS = ("GET", "HEAD", "POST", "DELETE")
# How long a browser may cache the response to a preflight request.
_PREFLIGHT_MAX_AGE_S = 3600


def key_file(settings: Settings) -> KeyFile | None:
    """The API key file, if the settings name one."""
    return KeyFile(Path(settings.api_keys_file)) if settings.api_keys_file else None


def require_usable(settings: Settings) -> None:
    """Check the API key file before the app starts.

    Raises:
        KeyFileError: the file cannot be used.
    """
    file = key_file(settings)
    if file is not None:
        file.load()


def middleware(settings: Settings, file: KeyFile | None) -> list[Middleware]:
    """The enabled middleware, from the outermost to the innermost."""
    layers: list[Middleware] = []
    if settings.trusted_proxies:
        proxies = Proxies(settings.trusted_proxies)
        layers.append(Middleware(ProxyHeadersMiddleware, proxies=proxies, header=settings.forwarded_header))
    if settings.cors_origins:
        # Without credentials: a key is a header that a script of an allowed origin sets itself.
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=_METHODS,
                allow_headers=("*",),
                expose_headers=_EXPOSED,
                max_age=_PREFLIGHT_MAX_AGE_S,
            )
        )
    if settings.security_headers:
        layers.append(Middleware(SecurityHeadersMiddleware, hsts_max_age_s=settings.hsts_max_age_s))
    if settings.allowed_hosts:
        layers.append(Middleware(AllowedHostsMiddleware, hosts=settings.allowed_hosts))
    addresses = AnonymousClients(
        Limits(
            requests_per_minute=settings.anonymous_requests_per_minute or None,
            burst=(settings.anonymous_burst or None) if settings.anonymous_requests_per_minute else None,
        )
    )
    if file is None:
        layers.append(Middleware(AddressMiddleware, addresses=addresses))
    else:
        layers.append(
            Middleware(APIKeyMiddleware, keys=lambda: file.keys, addresses=addresses, public=settings.public_scopes)
        )
    return layers
