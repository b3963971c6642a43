# SPDX-License-Identifier: Apache-2.0
"""API keys in the OpenAPI document: how to send a key, and which operations need one."""

from collections.abc import Collection
from typing import Any

from fastapi_triton.middleware.auth import scopes

_SCHEMES = {
    "Bearer": {"type": "http", "scheme": "bearer", "description": "An API key, as a Bearer token."},
    "Key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "An API key, in a header of its own.",
    },
    "Basic": {"type": "http", "scheme": "basic", "description": "An API key, as the password; any user name."},
}
_RESPONSES = {
    "401": "The API key is missing, unknown or expired",
    "403": "The API key lacks a scope, which `detail` names",
    "429": "The rate limit is reached; see `Retry-After`",
}
_METHODS = ("get", "head", "post", "put", "patch", "delete")


def add_to(document: dict[str, Any], public: Collection[str]) -> None:
    """Add the API keys to the document. `public` are the scopes that need no key."""
    document.setdefault("components", {})["securitySchemes"] = dict(_SCHEMES)
    for path, operations in document.get("paths", {}).items():
        for method in _METHODS:
            operation = operations.get(method)
            needed = scopes.of(method.upper(), path)
            if operation is None or needed is None:
                continue
            ways: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]
            operation["security"] = [*ways, {}] if needed in public else ways
            responses = operation.setdefault("responses", {})
            for status, description in _RESPONSES.items():
                responses.setdefault(status, {"description": description})
