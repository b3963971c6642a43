# SPDX-License-Identifier: Apache-2.0
"""What a request to `/v2` wants of Triton, read off its path as it was sent: a question, inference, administration.

Only what is listed here goes on, so an endpoint that a later Triton adds stays closed until somebody has looked at it.
"""

import functools
import re
from enum import Enum
from urllib.parse import unquote, unquote_to_bytes

from fastapi_triton.core.errors import MethodNotAllowedError, NotAllowedError, NotFoundError


class Call(Enum):
    """What Triton does for it."""

    QUESTION = "question"  # health, metadata, config, statistics: answered at once
    INFERENCE = "inference"  # one answer; Triton does not notice that its caller has left
    STREAM = "stream"  # answers as they come; the connection's end is how the model learns of a caller's leaving
    ADMINISTRATION = "administration"  # changes the server for everyone, or shows its files and memory


_NAME = rb"(?P<name>(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)"
_MODEL = rb"/v2/models/" + _NAME + rb"(?:/versions/[0-9]+)?"
_ROUTES: tuple[tuple[re.Pattern[bytes], Call, tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), call, methods)
    for pattern, call, methods in (
        (_MODEL + rb"/(?:infer|generate)", Call.INFERENCE, ("POST",)),
        (_MODEL + rb"/generate_stream", Call.STREAM, ("POST",)),
        (rb"/v2(?:/health/(?:live|ready)|/models/stats)?", Call.QUESTION, ("GET",)),
        (_MODEL + rb"(?:/(?:ready|config|stats))?", Call.QUESTION, ("GET",)),
        (rb"/v2/repository/index", Call.QUESTION, ("POST",)),
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
# Within a name these would be a path to something else, for a server that decodes it.
_NO_NAME = re.compile(rb"[\x00-\x1f\x7f/\\]|\A\.{1,2}\Z")


# Of what it took; a path is as long as a head at most.
@functools.lru_cache(maxsize=128)
def read(method: str, path: bytes, *, is_administration_allowed: bool) -> Call:
    """What a request wants. `path` is as it was sent: still percent-encoded, without the query.

    Raises:
        NotFoundError: nothing of Triton's that is passed on.
        MethodNotAllowedError: it is, but not with this HTTP method.
        NotAllowedError: it is administration, which is not open here.
    """
    for pattern, call, methods in _ROUTES:
        match = pattern.fullmatch(path)
        if match is None or not _is_name(match):
            continue
        if call is Call.ADMINISTRATION and not is_administration_allowed:
            raise NotAllowedError(
                "This changes the server for everyone, or shows its insides, so it is closed here. Ask Triton's own "
                "port, or start the frontend with --v2-admin (FASTAPI_TRITON_V2_ADMIN=true).",
                code="v2_administration_closed",
            )
        if method not in methods:
            raise MethodNotAllowedError(f"{path.decode()} takes {' or '.join(methods)}, not {method}.", allowed=methods)
        return call
    raise NotFoundError(f"{path.decode('ascii', 'replace')} is no endpoint of Triton's that is passed on.")


@functools.lru_cache(maxsize=128)
def labels(path: bytes) -> tuple[str, str]:
    """What a path that `read` took is counted as: the route without anybody's words, and the model, if it names one."""
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
    return name is None or _NO_NAME.search(unquote_to_bytes(name)) is None
