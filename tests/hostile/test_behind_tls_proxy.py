# SPDX-License-Identifier: Apache-2.0
"""An app behind a proxy that ends TLS and serves it below a prefix: what it says of itself is true for its callers."""

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
# Prefixes that a proxy takes off, and those that it leaves.
PREFIXES = pytest.mark.parametrize("prefix", ["", ROOT])
App = Callable[..., Any]


@pytest.fixture
def app(scribble_config: ModelConfig, stream_model: ScriptedStreamModel) -> App:
    """An app of these settings, as a client on the proxy's machine sees it."""

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


async def test_browsers_that_came_over_the_proxys_tls_are_told_to_stay_with_it(app: App) -> None:
    async with app(security_headers=True, hsts_max_age_s=60, allowed_hosts=("draw.example",)) as client:
        for path in ("/docs", "/health/live", "/no/such/route"):
            assert (await client.get(path, headers=TLS)).headers[HSTS] == "max-age=60"
        refused = await client.get("/docs", headers={**TLS, "X-Forwarded-Host": "evil.example"})
        assert (refused.status_code, refused.headers[HSTS]) == (400, "max-age=60")
        assert HSTS not in (await client.get("/docs", headers={**TLS, "X-Forwarded-Proto": "http"})).headers


async def test_a_stranger_cannot_say_that_it_came_over_tls(app: App, scribble_config: ModelConfig) -> None:
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
async def test_a_redirect_for_a_slash_leads_below_the_prefix(
    app: App, prefix: str, method: str, path: str, target: str
) -> None:
    async with app(root_path=ROOT) as client:
        answer = await client.request(method, f"{prefix}{path}", headers=TLS)
        assert (answer.status_code, answer.headers["location"]) == (307, f"https://draw.example{ROOT}{target}")
        direct = await client.request(method, f"{prefix}{path}")
        assert direct.headers["location"] == f"http://app.internal:8080{ROOT}{target}"


@PREFIXES
async def test_routes_are_found_with_the_prefix_and_without_it(
    app: App, prefix: str, body: Callable[..., dict[str, Any]]
) -> None:
    async with app(root_path=ROOT) as client:
        assert (await client.post(f"{prefix}{PATH}", json=body())).status_code == 200
        assert (await client.get(f"{prefix}/health/live")).status_code == 200
        missing = (await client.get(f"{prefix}/nowhere")).json()
        assert missing["detail"].startswith(f"There is no route {ROOT}/nowhere.")
        assert (await client.get("/drawing/health/live")).status_code == 404  # begins alike, and is no prefix


async def test_a_redirect_breaks_no_header_and_leads_nowhere_else(app: App) -> None:
    async with app(root_path=ROOT) as client:
        for path in ("/models%0d%0aSet-Cookie:%20a=b/", "//evil.example/", "/%2f%2fevil.example%2f..%2fmodels/"):
            answer = await client.get(path)
            assert answer.headers.get("location", "http://app.internal:8080/").startswith("http://app.internal:8080/")
            assert "set-cookie" not in answer.headers
