# SPDX-License-Identifier: Apache-2.0
"""The routes of `/v2` that the proxy passes on, by kind: status, inference, stream, administration.

The proxy rejects all other paths. So an endpoint that a later Triton adds stays closed until it is reviewed.
"""

import functools
import re
from enum import Enum
from urllib.parse import unquote, unquote_to_bytes

from fastapi_triton.core.errors import MethodNotAllowedError, NotAllowedError, NotFoundError, shown


class Call(Enum):
    """What a request does in Triton."""

    STATUS = "status"  # health, metadata, config, statistics: Triton responds at once
    INFERENCE = "inference"  # one response; Triton does not notice a disconnect
    STREAM = "stream"  # events as they come; closing the connection cancels the work
    ADMINISTRATION = "administration"  # changes Triton for all clients, or shows its files and memory


_NAME = rb"(?P<name>(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)"
_MODEL = rb"/v2/models/" + _NAME + rb"(?:/versions/[0-9]+)?"
_ROUTES: tuple[tuple[re.Pattern[bytes], Call, tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), call, methods)
    for pattern, call, methods in (
        (_MODEL + rb"/(?:infer|generate)", Call.INFERENCE, ("POST",)),
        (_MODEL + rb"/generate_stream", Call.STREAM, ("POST",)),
        (rb"/v2(?:/health/(?:live|ready)|/models/stats)?", Call.STATUS, ("GET",)),
        (_MODEL + rb"(?:/(?:ready|config|stats))?", Call.STATUS, ("GET",)),
        (rb"/v2/repository/index", Call.STATUS, ("POST",)),
        (rb"/v2/repository/models/" + _NAME + rb"/(?:load|unload)", Call.ADMINISTRATION, ("POST",)),
        (
            rb"/v2/(?:system|cuda)sharedmemory(?:/region/" + _NAME + rb")?/(?:register|unregister)",
            Call.ADMINISTRATION,
            ("POST",),
        ),
        (rb"/v2/(?:system|cuda)sharedmemory(?:/region/" + _NAME + rb")?/status", Call.ADMINISTRATION, ("GET",)),
        (rb"/v2(?:/models/" + _NAME + rb")?/trace/setting", Call.ADMINISTRATION, ("GET", "POST")),
        (rb"/v2/logging", Call.ADMINISTRATION, ("GET", "POST")),
    )
)
# A server that decodes such a name would read it as another path.
_INVALID_NAME = re.compile(rb"[\x00-\x1f\x7f/\\]|\A\.{1,2}\Z")


@functools.lru_cache(maxsize=128)  # only paths that are passed on; none is longer than a request's head may be
def read(method: str, path: bytes, *, is_administration_allowed: bool) -> Call:
    """The kind of a request. `path` is as the client sent it: percent-encoded, without the query.

    Raises:
        NotFoundError: the proxy does not pass this path on.
        MethodNotAllowedError: it passes the path on, but not with this HTTP method.
        NotAllowedError: the request is administration, which is not allowed.
    """
    for pattern, call, methods in _ROUTES:
        match = pattern.fullmatch(path)
        if match is None or not _is_name(match):
            continue
        if call is Call.ADMINISTRATION and not is_administration_allowed:
            raise NotAllowedError(
                f"{shown(path.decode())} administers Triton, which this frontend does not allow. Send the request to "
                "Triton's own port, or start the frontend with --v2-admin (FASTAPI_TRITON_V2_ADMIN=true).",
                code="v2_administration_closed",
            )
        if method not in methods:
            raise MethodNotAllowedError(
                f"{shown(path.decode())} accepts {' or '.join(methods)}, not {method}.", allowed=methods
            )
        return call
    raise NotFoundError(
        f"{shown(path.decode('ascii', 'replace'))} is not an endpoint of Triton that the frontend passes on."
    )


@functools.lru_cache(maxsize=128)
def labels(path: bytes) -> tuple[str, str]:
    """The metric labels of a path that `read` accepts: the route's template, and the model, which may be empty."""
    parts = path.decode("ascii").split("/")
    match parts[2:]:
        case ["models", name, *rest] if (name, rest) != ("stats", []):
            parts[3] = "{model}"
            if rest[:1] == ["versions"]:
                parts[5] = "{version}"
            return "/".join(parts), unquote(name)
        case ["repository", "models", _, _]:
            parts[4] = "{model}"
        case [_, "region", _, _]:
            parts[4] = "{region}"
    return "/".join(parts), ""


def _is_name(match: re.Match[bytes]) -> bool:
    name = match.groupdict().get("name")
    return name is None or _INVALID_NAME.search(unquote_to_bytes(name)) is None
