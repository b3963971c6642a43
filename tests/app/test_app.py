# SPDX-License-Identifier: Apache-2.0
"""The app as a whole: its OpenAPI document, its public names, and plain routes beside declared endpoints."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Message

import fastapi_triton
from fastapi_triton import TritonFrontend
from fastapi_triton.core.errors import InferenceError
from fastapi_triton.testing import FakeTriton
from support.scribble_app import PATH


def resolve(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    return set().union(*(references(item) for item in node)) if isinstance(node, list) else set()


def test_the_public_names_are_these() -> None:
    assert fastapi_triton.__all__ == [
        "Base64Image",
        "BlockingInfer",
        "Infer",
        "Settings",
        "TensorName",
        "TritonFrontend",
    ]


async def test_the_openapi_document_describes_every_media_type_of_the_endpoint(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"][PATH]["post"]
    body = operation["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    fields = resolve(document, body["application/json"]["schema"]["$ref"])
    assert fields["required"] == ["prompt", "image"]
    assert fields["additionalProperties"] is False
    assert fields["properties"]["image"]["contentEncoding"] == "base64"
    assert body["multipart/form-data"]["schema"]["properties"]["image"]["format"] == "binary"
    response = operation["responses"]["200"]["content"]
    assert set(response) == {"application/json", "image/webp", "image/png", "image/jpeg"}
    schema = resolve(document, response["application/json"]["schema"]["$ref"])
    assert schema["properties"]["info"]["type"] == "object"
    assert {"400", "406", "413", "415", "422", "502", "503", "504"} <= set(operation["responses"])


async def test_the_openapi_document_begins_with_the_declared_endpoints(client: httpx2.AsyncClient) -> None:
    first, *_ = (await client.get("/openapi.json")).json()["paths"]
    assert first == PATH


async def test_every_reference_in_the_openapi_document_resolves(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    found = references(document)
    assert found
    for reference in found:
        assert resolve(document, reference)


async def test_the_docs_page_is_served_and_the_root_redirects_to_it(client: httpx2.AsyncClient) -> None:
    response = await client.get("/")
    assert response.headers["location"] == "/docs"
    assert "swagger" in (await client.get("/docs")).text.lower()


async def test_a_plain_route_has_the_same_errors_as_declared_endpoints(triton: FakeTriton) -> None:
    app = TritonFrontend(triton=triton)

    class Square(BaseModel):
        side: int

    @app.post("/square")
    async def square(body: Square) -> dict[str, Any]:
        return {"area": body.side**2, "ready": await app.triton.ready("nope")}

    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        assert (await http.post("/square", json={"side": 3})).json() == {"area": 9, "ready": False}
        refused = await http.post("/square", json={"side": "x"})
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["errors"][0]["pointer"] == "#/side"


async def test_an_error_after_a_response_has_begun_sends_no_second_head(triton: FakeTriton) -> None:
    app = TritonFrontend(triton=triton)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a piece"
        raise InferenceError("too late")

    @app.get("/pieces")
    async def stream() -> StreamingResponse:
        return StreamingResponse(pieces())

    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        raise AssertionError("no body is read")

    scope = {"type": "http", "method": "GET", "path": "/pieces", "raw_path": b"/pieces", "query_string": b""}
    with pytest.raises(RuntimeError, match="already started"):
        await app({**scope, "headers": [], "asgi": {"spec_version": "2.4"}}, receive, send)
    assert [each["type"] for each in messages] == ["http.response.start", "http.response.body"]


async def test_the_lifespan_argument_runs_while_the_triton_client_is_open(triton: FakeTriton) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        seen.append("start")
        yield
        seen.append("stop")

    app = TritonFrontend(triton=triton, lifespan=lifespan)
    async with app.router.lifespan_context(app):
        assert seen == ["start"]
    assert seen == ["start", "stop"]
