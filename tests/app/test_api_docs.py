# SPDX-License-Identifier: Apache-2.0
"""`/docs` as an app configures it. tests/integration/test_docs_page.py opens it in a browser."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from fastapi_triton import TritonFrontend
from fastapi_triton.testing import FakeTriton


@asynccontextmanager
async def client_of(**arguments: Any) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=TritonFrontend(triton=FakeTriton(), **arguments))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_page_names_no_other_host_and_its_files_may_be_cached_forever() -> None:
    async with client_of() as client:
        page = await client.get("/docs")
        assert "http" not in page.text
        files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(files) == 4
        for file in files:
            response = await client.get(file)
            assert response.status_code == 200
            assert "immutable" in response.headers["cache-control"]
        assert (await client.get(re.sub(r"/[0-9a-f]{12}/", "/000000000000/", files[0]))).status_code == 404
        assert (await client.get(files[0].replace("favicon.png", "redoc.standalone.js"))).status_code == 404


async def test_page_follows_the_arguments_of_fastapi() -> None:
    arguments = {
        "title": "<b>",
        "docs_url": "/api",
        "openapi_url": "/api.json",
        "servers": [{"url": "https://api.example/v1"}, {"url": "/here"}],
        "swagger_ui_parameters": {"tryItOutEnabled": True, "x": "</script>"},
        "swagger_ui_init_oauth": {"clientId": "me"},
    }
    async with client_of(**arguments) as client:
        page = await client.get("/api")
        assert "<title>&lt;b&gt;</title>" in page.text
        for part in ('"url": "/api.json"', '"tryItOutEnabled": true', '"clientId": "me"', "\\u003c/script>"):
            assert part in page.text
        assert "connect-src 'self' https://api.example;" in page.headers["content-security-policy"]
        assert (await client.get("/docs")).status_code == 404


@pytest.mark.parametrize("arguments", [{"docs_url": None}, {"openapi_url": None}])
async def test_there_is_no_page_where_the_app_wants_none(arguments: dict[str, Any]) -> None:
    async with client_of(**arguments) as client:
        assert (await client.get("/docs")).status_code == 404


async def test_redoc_is_off_unless_the_app_asks_for_it() -> None:
    async with client_of() as client:
        assert (await client.get("/redoc")).status_code == 404
    async with client_of(redoc_url="/redoc") as client:
        assert (await client.get("/redoc")).status_code == 200
