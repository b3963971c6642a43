# SPDX-License-Identifier: Apache-2.0
"""Authentication: the headers that carry a key, scopes, rate limits, and the errors."""

import asyncio
import base64
import functools
import logging
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.context import current_caller
from fastapi_triton.middleware.auth import credentials, keys
from support.api_keys import DRAWS, RULES, WATCHES, basic, bearer, block
from support.scribble_app import PATH

Body = Callable[..., dict[str, Any]]


WAYS = {
    "Bearer": bearer(DRAWS),
    "with spaces": {"Authorization": f"bearer   {DRAWS}"},
    "X-API-Key": {"X-API-Key": DRAWS},
    "Basic, as the password": basic("any-user", DRAWS),
    "Basic, as the user": basic(DRAWS, ""),
    "beside a proxy's own": {"Authorization": "Negotiate whatever a proxy wants", "X-API-Key": DRAWS},
}


@pytest.mark.parametrize("headers", WAYS.values(), ids=WAYS)
async def test_a_key_is_accepted_in_every_way_that_clients_send_it(
    client: httpx2.AsyncClient, body: Body, headers: dict[str, str]
) -> None:
    assert (await client.post(PATH, json=body(), headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_key"),
        (bearer("ftk_wrong"), "unknown_key"),
        (bearer(""), "unknown_key"),
        (bearer(DRAWS[:-1]), "unknown_key"),
        (bearer(DRAWS.upper()), "unknown_key"),
        ({"X-API-Key": ""}, "unknown_key"),
        ({"Authorization": DRAWS}, "unknown_key"),
        ({"Authorization": "Basic !!!"}, "unknown_key"),
        (basic("any-user", "wrong"), "unknown_key"),
        ({"X-API-Key": "wrong", **bearer(DRAWS)}, "unknown_key"),
    ],
)
async def test_401_explains_how_to_send_a_key(
    client: httpx2.AsyncClient, body: Body, headers: dict[str, str], code: str
) -> None:
    response = await client.post(PATH, json=body(), headers=headers)
    content = response.json()
    assert (response.status_code, content["code"]) == (401, code)
    assert "X-API-Key" in content["detail"]
    assert response.headers["www-authenticate"].startswith('Basic realm="fastapi-triton"')
    assert 'Bearer realm="fastapi-triton"' in response.headers["www-authenticate"]
    assert response.headers["x-request-id"] == content["request_id"]
    assert response.headers["content-type"] == "application/problem+json"


async def test_log_lines_of_rejected_requests_name_the_caller(
    app_with: Callable[..., TritonFrontend], body: Body, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_triton.access")
    app = app_with(access_log=True)
    transport = httpx2.ASGITransport(app=app, client=("203.0.113.7", 4711))
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        for headers in ({}, bearer("ftk_wrong"), bearer(WATCHES), *[bearer(DRAWS)] * 4):
            await client.post(PATH, json=body(), headers=headers)
    fields = [record.fields for record in caplog.records if record.name == "fastapi_triton.access"]  # type: ignore[attr-defined]
    assert [(each["code"], each["caller"]) for each in fields] == [
        ("missing_key", "address:203.0.113.7"),
        ("unknown_key", "address:203.0.113.7"),
        ("missing_scope", "key:watches"),
        *[("ok", "key:draws")] * 3,
        ("rate_limited", "key:draws"),
    ]


async def test_an_expired_key_is_rejected(
    client: httpx2.AsyncClient, app: TritonFrontend, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = datetime(2030, 1, 1, tzinfo=UTC)
    known = keys.parse(block("ends", RULES, "expires = 2030-01-01T01:00:00+01:00", 'scopes = ["infer", "v2"]'))
    monkeypatch.setattr(app._key_file, "keys", known)
    monkeypatch.setattr(time, "time", lambda: end.timestamp() - 0.1)
    assert (await client.post(PATH, json=body(), headers=bearer(RULES))).status_code == 200
    monkeypatch.setattr(time, "time", end.timestamp)
    for path in (PATH, "/v1/images/generations", "/v2/models/x/infer"):
        response = await client.post(path, json=body(), headers=bearer(RULES))
        assert response.status_code == 401
        assert "has expired" in response.text
        assert 'error="invalid_token"' in response.headers["www-authenticate"]
    response = await client.post(PATH, json=body(), headers=bearer(RULES))
    assert response.json()["code"] == "expired_key"
    assert (await client.post(PATH, json=body(), headers=bearer(DRAWS))).json()["code"] == "unknown_key"


async def test_scripts_get_no_basic_challenge(client: httpx2.AsyncClient) -> None:
    response = await client.get("/playground/model", headers={"Sec-Fetch-Mode": "cors"})
    assert response.headers["www-authenticate"] == 'Bearer realm="fastapi-triton"'


OPEN = ["/health/live", "/health/ready"]
NEEDED = {
    "/openapi.json": "docs",
    "/docs": "docs",
    "/redoc": "docs",
    "/docs/of/mine": "infer",
    "/metrics": "metrics",
    "/metrics/of/mine": "infer",
    "/v2": "v2",
    "/v2/models/x": "v2",
    "/playground/model": "infer",
    "/models": "infer",
    "/v2x": "infer",
    "/health": "infer",
    "/jobs/1": "infer",
    "/what/ever": "infer",
    "//v2/models/x": "infer",
    "/%76%32/models/x": "v2",
}


@pytest.mark.parametrize("path", OPEN)
async def test_probes_need_no_key(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code != 401
    assert (await client.post(path)).status_code == 401


@pytest.mark.parametrize(("path", "scope"), NEEDED.items())
async def test_every_path_needs_its_scope(client: httpx2.AsyncClient, path: str, scope: str) -> None:
    scopes = {DRAWS: {"infer"}, WATCHES: {"metrics", "docs"}, RULES: {"infer", "v2", "admin", "metrics", "docs"}}
    for secret, has in scopes.items():
        response = await client.get(path, headers=bearer(secret))
        if scope in has:
            assert response.status_code not in (401, 403)
        else:
            assert response.status_code == 403
            assert "missing_scope" in response.text
            assert f"`{scope}`" in response.text


async def test_an_endpoint_rejects_a_key_without_its_scope(client: httpx2.AsyncClient, body: Body) -> None:
    response = await client.post(PATH, json=body(), headers=bearer(WATCHES))
    assert (response.status_code, response.json()["code"]) == (403, "missing_scope")


async def test_each_api_returns_401_in_its_own_format(client: httpx2.AsyncClient, app: TritonFrontend) -> None:
    openai = await client.get("/v1/models")
    assert openai.status_code == 401
    assert openai.json()["error"]["type"] == "authentication_error"
    assert openai.json()["error"]["code"] == "missing_key"
    assert "www-authenticate" in openai.headers
    a1111 = await client.get("/sdapi/v1/options")
    assert (a1111.status_code, a1111.json()["code"]) == (401, "missing_key")
    assert isinstance(a1111.json()["detail"], str)


async def test_a_rate_limit_is_exact_to_the_second(
    client: httpx2.AsyncClient, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(
        "fastapi_triton.middleware.auth.authentication.time", SimpleNamespace(monotonic=lambda: now)
    )  # only the clock of this module
    for _ in range(3):
        assert (await client.post(PATH, json=body(), headers=bearer(DRAWS))).status_code == 200
    refused = await client.post(PATH, json=body(), headers=bearer(DRAWS))
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "1"
    assert (await client.get("/playground/model", headers=bearer(DRAWS))).status_code != 429
    for path in ("/sdapi/v1/interrupt", "/internal/progress"):
        assert (await client.post(path, headers=bearer(DRAWS), content=b"{}")).status_code != 429
    assert (await client.post(PATH, json=body(), headers=bearer(RULES))).status_code == 200
    now += 1
    assert (await client.post(PATH, json=body(), headers=bearer(DRAWS))).status_code == 200
    assert (await client.post(PATH, json=body(), headers=bearer(DRAWS))).status_code == 429


def tell_caller(app: TritonFrontend) -> None:
    async def whoami(request: Request) -> JSONResponse:
        caller = current_caller.get()
        scopes = None if caller.scopes is None else sorted(caller.scopes)
        return JSONResponse({"name": caller.name, "scopes": scopes, "max_in_flight": caller.max_in_flight})

    app.add_route("/whoami", whoami)


async def test_the_caller_is_named_after_its_key(app: TritonFrontend, client: httpx2.AsyncClient) -> None:
    tell_caller(app)
    response = await client.get("/whoami", headers=bearer(DRAWS))
    assert response.json() == {"name": "key:draws", "scopes": ["infer"], "max_in_flight": 2}


async def test_public_scopes_need_no_key_and_allow_no_others(app_with: Callable[..., TritonFrontend]) -> None:
    app = app_with(public_scopes=("docs", "infer"))
    tell_caller(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app, client=("10.1.2.3", 5)), base_url="http://test"
        ) as client,
    ):
        assert (await client.get("/openapi.json")).status_code == 200
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/openapi.json", headers=bearer("wrong"))).status_code == 401
        assert (await client.get("/openapi.json", headers=bearer(DRAWS))).status_code == 200
        body = (await client.get("/whoami")).json()
        assert body == {"name": "address:10.1.2.3", "scopes": ["docs", "infer"], "max_in_flight": None}


async def test_a_page_of_another_site_cannot_use_a_stored_key(client: httpx2.AsyncClient, body: Body) -> None:
    kept = basic("me", DRAWS)
    refused = await client.post(PATH, json=body(), headers={**kept, "Sec-Fetch-Site": "cross-site"})
    assert (refused.status_code, refused.json()["code"]) == (403, "cross_site")
    for headers in ({**kept, "Sec-Fetch-Site": "same-origin"}, {**bearer(DRAWS), "Sec-Fetch-Site": "cross-site"}):
        assert (await client.post(PATH, json=body(), headers=headers)).status_code == 200


async def test_a_websocket_needs_a_key_too(app: TritonFrontend, client: httpx2.AsyncClient) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/x", "headers": [], "client": ("1.2.3.4", 5), "scheme": "ws"}
    await app(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


NAMES = [b"authorization", b"x-api-key", b"sec-fetch-mode", b"sec-fetch-site", b"host", b"origin", b"x-forwarded-for"]
VALUES = st.one_of(
    st.binary(max_size=100),
    st.tuples(st.sampled_from([b"Basic ", b"bearer ", b"BASIC", b"Digest "]), st.binary(max_size=60)).map(b"".join),
    st.binary(max_size=60).map(lambda each: b"Basic " + base64.b64encode(each)),
)
PATHS = ["/", PATH, "/v1/models", "/sdapi/v1/txt2img", "/v2/models/x", "/openapi.json", "/models/x/infer", "/no/such"]


@functools.cache
def everything_on() -> TritonFrontend:
    file = tempfile.NamedTemporaryFile("w", suffix=".toml")  # noqa: SIM115  # as long as the app
    file.write(block("draws", DRAWS))
    file.flush()
    app = TritonFrontend(
        settings=Settings(
            api_keys_file=file.name,
            allowed_hosts=("*.example.com",),
            cors_origins=("https://example.com",),
            trusted_proxies=("127.0.0.1",),
            security_headers=True,
        )
    )
    app.state.file = file
    return app


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6), st.sampled_from(PATHS))
def test_random_headers_are_never_a_valid_key(headers: list[tuple[bytes, bytes]], path: str) -> None:
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"a.example.com"), *headers],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8080),
        "scheme": "http",
    }
    asyncio.run(everything_on()(scope, receive, send))
    assert statuses in ([400], [401])  # 400: the `Host` header is unknown
    assert b"ftk_" not in (credentials.find_key(headers) or b"")
