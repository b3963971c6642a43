# SPDX-License-Identifier: Apache-2.0
"""The path that the app's routes know, whether a proxy took the prefix off that it is mounted under or not."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """A request's path, decoded, without `root_path` where it begins with that."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) :][:1] in ("", "/"):
        return path[len(root) :] or "/"
    return path
