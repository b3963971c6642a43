# SPDX-License-Identifier: Apache-2.0
"""The middleware together: error responses have a request id, and browsers' scripts can read them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.paths import route_path
from fastapi_triton.middleware.stack import middleware
from support.api_keys import DRAWS, bearer
from support.scribble_app import PATH

App = Callable[..., TritonFrontend]
PAGE = "https://draw.example"


@asynccontextmanager
async def calling(app: TritonFrontend, client: tuple[str, int] = ("10.1.2.3", 5)) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, client=client, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        yield http


def test_disabled_middleware_is_not_installed() -> None:
    assert [each.cls.__name__ for each in middleware(Settings(), None)] == ["AddressMiddleware"]


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), {"Host": "other.example"}])
async def test_an_error_response_has_request_id_and_cors_headers(
    app_with: App, body: Callable[..., dict[str, Any]], headers: dict[str, str]
) -> None:
    app = app_with(cors_origins=(PAGE,), allowed_hosts=("test", "*.test"), security_headers=True, hsts_max_age_s=60)
    async with calling(app) as client:
        response = await client.post(PATH, json=body(), headers={**headers, "Origin": PAGE, "X-Request-ID": "mine"})
        assert response.status_code in (400, 401)
        assert response.headers["x-request-id"] == "mine"
        assert response.json()["request_id"] == "mine"
        assert response.headers["access-control-allow-origin"] == PAGE
        assert "WWW-Authenticate" in response.headers["access-control-expose-headers"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "strict-transport-security" not in response.headers  # the request did not use TLS


async def test_a_script_of_an_allowed_origin_may_send_a_key(app_with: App, body: Callable[..., dict[str, Any]]) -> None:
    async with calling(app_with(cors_origins=(PAGE,))) as client:
        asks = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,x-request-timeout",
        }
        preflight = await client.options(PATH, headers=asks)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == PAGE
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in preflight.headers
        response = await client.post(PATH, json=body(), headers={**bearer(DRAWS), "Origin": PAGE})
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == PAGE
        foreign = await client.options(PATH, headers={**asks, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in foreign.headers


async def test_unknown_hosts_are_rejected(app_with: App) -> None:
    async with calling(app_with(allowed_hosts=("draw.example", "*.draw.example", "10.0.0.7", "::1"))) as client:
        for host in ("draw.example", "DRAW.example:8080", "a.b.draw.example", "10.0.0.7:80", "[::1]:8080"):
            assert (await client.get("/", headers={"Host": host})).status_code == 200, host
        for host in ("evildraw.example", "example", "draw.example.evil", "", "[::2]", "draw.example@evil"):
            response = await client.get("/", headers={"Host": host})
            assert (response.status_code, response.json()["code"]) == (400, "unknown_host"), host
        assert (await client.get("/health/live", headers={"Host": "10.9.9.9"})).status_code == 200


async def test_security_headers_are_on_all_responses_and_the_pages_own_policy_stays(app_with: App) -> None:
    app = app_with(security_headers=True, hsts_max_age_s=60, public_scopes=("docs",), trusted_proxies=("10.1.2.3",))
    async with calling(app) as client:
        page = await client.get("/")
        assert page.headers.get_list("content-security-policy")[0].startswith("default-src 'none'; script-src 'self'")
        assert len(page.headers.get_list("content-security-policy")) == 1
        docs = await client.get("/docs")
        assert docs.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        response = await client.get("/openapi.json", headers={"X-Forwarded-Proto": "https"})
        assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert response.headers["referrer-policy"] == "no-referrer"
    https = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=https, base_url="https://test") as client:
        assert (await client.get("/docs")).headers["strict-transport-security"] == "max-age=60"


async def test_anonymous_callers_have_a_rate_limit_per_address(
    app_with: App, body: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(
        "fastapi_triton.middleware.auth.authentication.time", SimpleNamespace(monotonic=lambda: now)
    )  # only the clock of this module
    app = app_with(api_keys_file="", anonymous_requests_per_minute=30, anonymous_burst=2, trusted_proxies=("10.1.2.3",))
    async with calling(app) as client:

        async def status(address: str) -> int:
            headers = {"X-Forwarded-For": f"10.1.2.3, {address}"}
            return (await client.post(PATH, json=body(), headers=headers)).status_code

        assert [await status("1.1.1.1") for _ in range(3)] == [200, 200, 429]
        assert await status("2.2.2.2") == 200
        now += 2
        assert [await status("1.1.1.1") for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/v2/models", "", "/v2/models"),
        ("/draw/v2/models", "/draw", "/v2/models"),
        ("/v2/models", "/draw", "/v2/models"),
        ("/v2/models", "/v", "/v2/models"),
        ("/drawing", "/draw", "/drawing"),
        ("/draw", "/draw", "/"),
        ("/draw/", "/draw", "/"),
    ],
)
def test_paths_are_compared_without_the_root_path(path: str, root: str, expected: str) -> None:
    assert route_path({"path": path, "root_path": root}) == expected
