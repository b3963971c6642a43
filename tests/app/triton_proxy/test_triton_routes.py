# SPDX-License-Identifier: Apache-2.0
"""The endpoints of Triton that `/v2` passes on. No spelling of a path reaches the others."""

import pytest

from fastapi_triton.app.triton_proxy import routes
from fastapi_triton.app.triton_proxy.routes import Call
from fastapi_triton.core.errors import MethodNotAllowedError, NotAllowedError, NotFoundError

ADMINISTRATION = (
    ("POST", "/v2/repository/models/echo/load"),
    ("POST", "/v2/repository/models/echo/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/systemsharedmemory/region/a/status"),
    ("POST", "/v2/systemsharedmemory/region/a/register"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    ("POST", "/v2/cudasharedmemory/region/a/register"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("POST", "/v2/models/echo/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
)


def read(method: str, path: str, *, is_administration_allowed: bool = False) -> Call:
    return routes.read(method, path.encode(), is_administration_allowed=is_administration_allowed)


@pytest.mark.parametrize(
    ("method", "path", "call"),
    [
        ("GET", "/v2", Call.STATUS),
        ("GET", "/v2/health/live", Call.STATUS),
        ("GET", "/v2/health/ready", Call.STATUS),
        ("GET", "/v2/models/stats", Call.STATUS),
        ("GET", "/v2/models/echo", Call.STATUS),
        ("GET", "/v2/models/echo/ready", Call.STATUS),
        ("GET", "/v2/models/echo/versions/12/config", Call.STATUS),
        ("GET", "/v2/models/echo/versions/1/stats", Call.STATUS),
        ("POST", "/v2/repository/index", Call.STATUS),
        ("POST", "/v2/models/echo/infer", Call.INFERENCE),
        ("POST", "/v2/models/echo/versions/1/infer", Call.INFERENCE),
        ("POST", "/v2/models/a%20b.c-d~(1)/generate", Call.INFERENCE),
        ("POST", "/v2/models/..a/generate_stream", Call.STREAM),
    ],
)
def test_requests_of_tritons_clients_are_passed_on(method: str, path: str, call: Call) -> None:
    assert read(method, path) is call


@pytest.mark.parametrize(("method", "path"), ADMINISTRATION)
def test_administration_is_rejected_unless_a_setting_allows_it(method: str, path: str) -> None:
    with pytest.raises(NotAllowedError, match="--v2-admin") as refused:
        read(method, path)
    assert (refused.value.status, refused.value.code) == (403, "v2_administration_closed")
    assert read(method, path, is_administration_allowed=True) is Call.ADMINISTRATION


@pytest.mark.parametrize(
    "path",
    [
        "/v2/",
        "/v2x",
        "/V2",
        "/v2//models/echo",
        "/v2/models/",
        "/v2/models//infer",
        "/v2/models/./infer",
        "/v2/models/../infer",
        "/v2/models/../../metrics",
        "/v2/models/%2e%2e/infer",
        "/v2/models/.%2E/config",
        "/v2/models/echo/../echo/infer",
        "/v2/models/echo%2Finfer",
        "/v2/models/x%2f..%2f..%2frepository%2fmodels%2fecho%2funload/infer",
        "/v2/models/x%5c..%5crepository/infer",
        "/v2/models/echo%00/infer",
        "/v2/models/echo%0d%0aX: y/infer",
        "/v2/models/echo/infer/",
        "/v2/models/echo/infer;x",
        "/v2/models/echo/infer%3Fx",
        "/v2/models/echo/versions/x/infer",
        "/v2/models/echo/versions/../infer",
        "/v2/models/echo%/infer",
        "/v2/models/echo%zz/infer",
        "/v2/mod%65ls/echo/infer",
        "/v2/repository%2Fmodels/echo/load",
        "/v2/%72epository/models/echo/load",
        "/v2/repository//models/echo/load",
        "/v2/repository/models/echo/LOAD",
        "/v2/health/live\n",
        "/v2/nope",
        "/metrics",
        "http://elsewhere/v2",
        "",
    ],
)
def test_other_spellings_of_a_path_are_rejected(path: str) -> None:
    for method in ("GET", "POST"):
        with pytest.raises(NotFoundError):
            read(method, path, is_administration_allowed=True)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v2/models/echo/infer", ("POST",)),
        ("HEAD", "/v2/health/live", ("GET",)),
        ("DELETE", "/v2/models/echo", ("GET",)),
        ("CONNECT", "/v2/models/echo/generate_stream", ("POST",)),
        ("PUT", "/v2/logging", ("GET", "POST")),
    ],
)
def test_another_method_is_rejected_with_the_allowed_methods(method: str, path: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(MethodNotAllowedError) as refused:
        read(method, path, is_administration_allowed=True)
    assert refused.value.allowed == allowed
