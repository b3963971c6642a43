# SPDX-License-Identifier: Apache-2.0
"""The path that the app's routes know, whether a proxy took the prefix off that it is mounted under or not."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """A request's path, decoded, without `root_path` where it begins with that."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] or "/" if root and _is_below(path, root) else path


def put_below_root(scope: Scope, root: str) -> None:
    """Put `root_path` back in front of `path`, as ASGI defines it, if a proxy removed it: redirects need it."""
    scope["root_path"] = root
    if not _is_below(scope["path"], root):
        scope["path"] = root + scope["path"]


def _is_below(path: str, root: str) -> bool:
    return path.startswith(root) and path[len(root) :][:1] in ("", "/")
