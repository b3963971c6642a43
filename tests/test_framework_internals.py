# SPDX-License-Identifier: Apache-2.0
"""The framework internals that we subclass or replace have not changed, and their version is pinned."""

import hashlib
import importlib.metadata
import inspect
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from fastapi.routing import APIRoute, APIRouter
from starlette.routing import Route
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from support.paths import ROOT

# A class or function of a framework, the start of its source's SHA-256, and our module that depends on it.
DEPENDENCIES: list[tuple[type | Callable[..., Any], str, str]] = [
    (HttpToolsProtocol, "18fdf324b11b", "serving/request_reader.py and serving/http_protocol.py"),
    (RequestResponseCycle, "e67d470d435d", "serving/request_cycle.py"),
    (FlowControl, "126debcdaa89", "serving/http_protocol.py"),
    (uvicorn.Server.startup, "2aa1d70a244b", "serving/server.py"),
    (uvicorn.Server.shutdown, "9b33c5056299", "serving/server.py"),
    (uvicorn.Server.handle_exit, "553276efa26e", "serving/server.py"),
    (APIRoute, "022b86b01668", "app/frontend.py (`route.app`)"),
    (APIRouter.app, "89d3c3a8083f", "app/frontend.py (`route.app`)"),
    (Route.handle, "96b34240b73d", "app/frontend.py (`route.app`)"),
]
PINNED = ("fastapi", "uvicorn")


@pytest.mark.parametrize(
    ("dependency", "known", "ours"), DEPENDENCIES, ids=lambda each: getattr(each, "__qualname__", "")
)
def test_the_source_has_not_changed(dependency: type | Callable[..., Any], known: str, ours: str) -> None:
    name = f"{dependency.__module__}.{dependency.__qualname__}"
    found = hashlib.sha256(inspect.getsource(dependency).encode()).hexdigest()[:12]
    assert found == known, (
        f"{name} has changed. Compare its source in the old and the new version, and with src/fastapi_triton/{ours}; "
        f"update our code, run `python -m benchmarks.framework_internals`, then write {found!r} here."
    )


@pytest.mark.parametrize("package", PINNED)
def test_the_package_is_pinned_to_the_tested_minor_version(package: str) -> None:
    major, minor, *_ = importlib.metadata.version(package).split(".")
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"{package}>={major}.{minor},<{major}.{int(minor) + 1}" in dependencies
