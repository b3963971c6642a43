# SPDX-License-Identifier: Apache-2.0
"""What a key may be for, and which of it a path is."""

from typing import Literal, get_args

from fastapi_triton.core import paths
from fastapi_triton.core.context import current_caller
from fastapi_triton.core.errors import NotAllowedError

Scope = Literal["infer", "v2", "admin", "metrics", "docs"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_READS = ("GET", "HEAD")
_OPEN = (f"{paths.HEALTH}/", f"{paths.PLAYGROUND}/")
# The page's one question, which goes to the model.
_MODEL = f"{paths.PLAYGROUND}/model"
# What is not here asks the models for something, or is a route of the app's own.
_BY_PATH: dict[str, Scope] = {
    paths.METRICS: "metrics",
    "/docs": "docs",
    "/docs/oauth2-redirect": "docs",
    "/redoc": "docs",
    "/openapi.json": "docs",
}


def of(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None: it is open to all, as probes and the page itself are, which hold nothing
    that would have to be kept from anybody. `path` is decoded, without what the app is mounted under."""
    if paths.is_below(path, paths.V2):
        return "v2"
    if method in _READS and (path == "/" or path.startswith(_OPEN)) and path != _MODEL:
        return None
    return _BY_PATH.get(path, "infer")


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
