# SPDX-License-Identifier: Apache-2.0
"""An app behind a proxy that ends TLS and adds a path prefix: redirects, headers and errors fit the public URL."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from fastapi_triton import Settings
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support.scribble_app import PATH
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_model_config

ROOT = "/draw"
TLS = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "draw.example", "X-Forwarded-For": "1.1.1.1"}
HSTS = "strict-transport-security"
# A proxy may strip the prefix or keep it.
PREFIXES = pytest.mark.parametrize("prefix", ["", ROOT])
App = Callable[..., Any]


@pytest.fixture
def app(scribble_config: ModelConfig, stream_model: ScriptedStreamModel) -> App:
    """An app with these settings, and a client on the proxy's machine."""

    @asynccontextmanager
    async def make(**settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
        fake = FakeTriton()
        fake.add(scribble_config)
        fake.add(stream_model_config(scribble_config), respond_stream=stream_model)
        made: FastAPI = app_of(fake, Settings(trusted_proxies=("10.0.0.0/8",), generate=True, **settings))
        transport = httpx2.ASGITransport(app=made, client=("10.0.0.1", 50000))
        async with (
            made.router.lifespan_context(made),
            httpx2.AsyncClient(transport=transport, base_url="http://app.internal:8080") as client,
        ):
            yield client

    return make


async def test_hsts_header_is_sent_over_the_proxys_tls(app: App) -> None:
    async with app(security_headers=True, hsts_max_age_s=60, allowed_hosts=("draw.example",)) as client:
        for path in ("/docs", "/health/live", "/no/such/route"):
            assert (await client.get(path, headers=TLS)).headers[HSTS] == "max-age=60"
        rejected = await client.get("/docs", headers={**TLS, "X-Forwarded-Host": "evil.example"})
        assert (rejected.status_code, rejected.headers[HSTS]) == (400, "max-age=60")
        assert HSTS not in (await client.get("/docs", headers={**TLS, "X-Forwarded-Proto": "http"})).headers


async def test_forwarded_headers_of_untrusted_clients_are_ignored(app: App, scribble_config: ModelConfig) -> None:
    settings = Settings(trusted_proxies=("10.0.0.0/8",), security_headers=True, hsts_max_age_s=60)
    fake = FakeTriton()
    fake.add(scribble_config)
    transport = httpx2.ASGITransport(app=app_of(fake, settings), client=("192.0.2.1", 50000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        assert HSTS not in (await client.get("/docs", headers=TLS)).headers


@PREFIXES
@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("GET", "/models/", "/models"),
        ("POST", f"{PATH}/", PATH),
        ("GET", f"{PATH}/describe/?a=b", f"{PATH}/describe?a=b"),
    ],
)
async def test_slash_redirect_keeps_the_prefix(app: App, prefix: str, method: str, path: str, target: str) -> None:
    async with app(root_path=ROOT) as client:
        response = await client.request(method, f"{prefix}{path}", headers=TLS)
        assert (response.status_code, response.headers["location"]) == (307, f"https://draw.example{ROOT}{target}")
        direct = await client.request(method, f"{prefix}{path}")
        assert direct.headers["location"] == f"http://app.internal:8080{ROOT}{target}"


@PREFIXES
async def test_routes_are_found_with_and_without_the_prefix(
    app: App, prefix: str, body: Callable[..., dict[str, Any]]
) -> None:
    async with app(root_path=ROOT) as client:
        assert (await client.post(f"{prefix}{PATH}", json=body())).status_code == 200
        assert (await client.get(f"{prefix}/health/live")).status_code == 200
        missing = (await client.get(f"{prefix}/nowhere")).json()
        assert missing["detail"].startswith(f"There is no route {ROOT}/nowhere.")
        assert (await client.get("/drawing/health/live")).status_code == 404  # a similar path without the prefix


async def test_redirect_stays_on_the_host_and_breaks_no_header(app: App) -> None:
    async with app(root_path=ROOT) as client:
        for path in ("/models%0d%0aSet-Cookie:%20a=b/", "//evil.example/", "/%2f%2fevil.example%2f..%2fmodels/"):
            response = await client.get(path)
            assert response.headers.get("location", "http://app.internal:8080/").startswith("http://app.internal:8080/")
            assert "set-cookie" not in response.headers
