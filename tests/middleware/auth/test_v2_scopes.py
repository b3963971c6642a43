# SPDX-License-Identifier: Apache-2.0
"""Keys on `/v2`: their scopes, the error format, and that no key is sent to Triton."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.middleware.auth.keys import new_secret
from support.api_keys import DRAWS, RULES, basic, bearer, block
from support.app_on_socket import listening
from support.scripted_triton import REQUEST, ScriptedTriton, scripted_triton

INFER = "/v2/models/echo/infer"
LOAD = "/v2/repository/models/echo/load"
PASSES = new_secret()


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as triton:
        yield triton


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.toml"
    file.write_text(
        block("passes", PASSES, 'scopes = ["v2"]', "requests_per_minute = 60", "burst = 1")
        + block("rules", RULES, 'scopes = ["v2", "admin"]')
        + block("draws", DRAWS)
    )
    return file


@pytest.fixture
async def client(scripted: ScriptedTriton, key_file: Path) -> AsyncIterator[httpx2.AsyncClient]:
    settings = Settings(triton_url=scripted.url, api_keys_file=str(key_file), v2_admin=True)
    async with listening(TritonFrontend(settings=settings)) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        (INFER, {}, 401, "missing_key"),
        (INFER, bearer("wrong"), 401, "unknown_key"),
        (INFER, bearer(DRAWS), 403, "missing_scope"),
        (LOAD, bearer(PASSES), 403, "missing_scope"),
        ("/v2/nothing", {}, 401, "missing_key"),
    ],
)
async def test_errors_have_the_format_that_tritons_clients_read(
    client: httpx2.AsyncClient,
    scripted: ScriptedTriton,
    path: str,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    response = await client.post(path, content=REQUEST, headers=headers)
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code)
    assert isinstance(body["error"], str)
    assert response.headers["x-request-id"] == body["request_id"]
    assert ("www-authenticate" in response.headers) == (status == 401)
    assert not scripted.requests


@pytest.mark.parametrize("headers", [bearer(RULES), {"X-API-Key": RULES}, basic("", RULES)])
async def test_no_key_is_sent_to_triton(
    client: httpx2.AsyncClient, scripted: ScriptedTriton, headers: dict[str, str]
) -> None:
    for path in (INFER, LOAD):
        assert (await client.post(path, content=REQUEST, headers=headers)).status_code == 200
    for head, _ in scripted.requests:
        assert RULES.encode() not in head
        assert b"authorization" not in head.lower()
        assert b"x-api-key" not in head.lower()


async def test_the_rate_limit_applies_to_v2(client: httpx2.AsyncClient) -> None:
    assert (await client.post(INFER, content=REQUEST, headers=bearer(PASSES))).status_code == 200
    response = await client.post(INFER, content=REQUEST, headers=bearer(PASSES))
    assert (response.status_code, response.json()["code"], response.headers["retry-after"]) == (
        429,
        "rate_limited",
        "1",
    )


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_compressed_request_is_decompressed_only_if_configured(scripted: ScriptedTriton, is_open: bool) -> None:
    packed = gzip.compress(REQUEST)
    async with listening(TritonFrontend(settings=Settings(triton_url=scripted.url, v2_compressed=is_open))) as client:
        response = await client.post(INFER, content=packed, headers={"Content-Encoding": "gzip"})
    if is_open:
        assert response.status_code == 200
        ((head, arrived),) = scripted.requests
        assert b"content-encoding" not in head
        assert arrived == REQUEST
    else:
        assert (response.status_code, response.json()["code"]) == (415, "compressed_body")
        assert not [head for head, _ in scripted.requests if head.startswith(b"POST")]
