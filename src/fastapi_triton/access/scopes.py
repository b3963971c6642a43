# SPDX-License-Identifier: Apache-2.0
"""What a key may be for, and which of it a path is."""

from typing import Literal, get_args

from fastapi_triton.callers import current_caller
from fastapi_triton.errors import NotAllowedError

Scope = Literal["infer", "v2", "admin", "metrics", "docs"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_READS = ("GET", "HEAD")
# By a path's first part. What is not here asks the models for something, or is a route of the app's own.
_BY_FIRST: dict[str, Scope] = {
    "v2": "v2",
    "metrics": "metrics",
    "docs": "docs",
    "redoc": "docs",
    "openapi.json": "docs",
}


def of(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None: it is open to all, as probes and the page itself are, which hold nothing
    that would have to be kept from anybody. `path` is decoded, without what the app is mounted under."""
    first, _, rest = path[1:].partition("/")
    if method in _READS:
        if path == "/" or first == "health":
            return None
        if first == "playground" and rest != "model":
            return None
    return _BY_FIRST.get(first, "infer")


def require(scope: Scope) -> None:
    """Hold it against the caller of the present request.

    Raises:
        NotAllowedError: its key is not for that.
    """
    scopes = current_caller.get().scopes
    if scopes is not None and scope not in scopes:
        raise missing(scope)


def missing(scope: Scope) -> NotAllowedError:
    """The refusal of a key that is not for that."""
    return NotAllowedError(
        f"This API key lacks the scope `{scope}`, which is needed here. Ask whoever runs the server for one with it.",
        code="missing_scope",
    )
