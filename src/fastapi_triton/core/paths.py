# SPDX-License-Identifier: Apache-2.0
"""The URL prefixes of the app's routes, and the path of a request below the app's own prefix (`root_path`)."""

from starlette.types import Scope

HEALTH = "/health"
METRICS = "/metrics"
MODELS = "/models"
JOBS = "/jobs"
PLAYGROUND = "/playground"
SWAGGER_UI = "/swagger-ui"
OPENAI = "/v1"
# Pictures with signed URLs, which need no key.
PICTURE_FILES = f"{OPENAI}/images/files/"
A1111 = "/sdapi"
A1111_CONTROLNET = "/controlnet"
A1111_INTERNAL_PROGRESS = "/internal/progress"
# Triton's own protocol. The proxy passes these paths on unchanged.
V2 = "/v2"


def route_path(scope: Scope) -> str:
    """A request's decoded path without `root_path`, whether a proxy removed that prefix or not."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] or "/" if root and is_below(path, root) else path


def put_below_root(scope: Scope, root: str) -> None:
    """Prepend `root_path` to `path`, as ASGI defines it, if a proxy removed it. Redirects need it."""
    scope["root_path"] = root
    if not is_below(scope["path"], root):
        scope["path"] = root + scope["path"]


def is_below(path: str, prefix: str) -> bool:
    """Whether a path is the prefix itself or begins with it and a slash."""
    return path.startswith(prefix) and path[len(prefix) :][:1] in ("", "/")


def is_probe(path: str) -> bool:
    """Whether it is a health probe. Limits and allowed host names do not apply to probes."""
    return path.startswith(f"{HEALTH}/")
