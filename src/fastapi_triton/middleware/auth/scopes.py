# SPDX-License-Identifier: Apache-2.0
"""The scopes of API keys, and the scope that a path needs."""

from typing import Literal, get_args

from fastapi_triton.core import paths
from fastapi_triton.core.context import current_caller
from fastapi_triton.core.errors import NotAllowedError

Scope = Literal["infer", "v2", "admin", "metrics", "docs"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_READS = ("GET", "HEAD")
_OPEN = (f"{paths.HEALTH}/", f"{paths.PLAYGROUND}/", f"{paths.SWAGGER_UI}/", paths.PICTURE_FILES)
# The request by which the page learns about the model; unlike the page itself, it needs a key.
_MODEL = f"{paths.PLAYGROUND}/model"
# All other paths run models, or are the app's own routes.
_BY_PATH: dict[str, Scope] = {
    paths.METRICS: "metrics",
    "/docs": "docs",
    "/docs/oauth2-redirect": "docs",
    "/redoc": "docs",
    "/openapi.json": "docs",
}


def of(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None: the path is open, as for health probes, the page and signed URLs.

    `path` is decoded, and does not contain `root_path`.
    """
    if paths.is_below(path, paths.V2):
        return "v2"
    if method in _READS and (path == "/" or path.startswith(_OPEN)) and path != _MODEL:
        return None
    return _BY_PATH.get(path, "infer")


def require(scope: Scope) -> None:
    """Check that the current request's caller has a scope.

    Raises:
        NotAllowedError: its key lacks the scope.
    """
    scopes = current_caller.get().scopes
    if scopes is not None and scope not in scopes:
        raise missing(scope)


def missing(scope: Scope) -> NotAllowedError:
    """The error for a key that lacks the scope."""
    return NotAllowedError(
        f"This API key lacks the scope `{scope}`. Ask the operator of this server for a key that has it.",
        code="missing_scope",
    )
