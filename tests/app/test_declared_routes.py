# SPDX-License-Identifier: Apache-2.0
"""Declared endpoints are called without FastAPI's router; middleware, dependencies and error handlers still apply."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import Depends, HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.testing import FakeTriton
from support.scribble_app import MODEL, PATH


class RouteHeaderMiddleware:
    """A middleware of the app that adds the request's route to the response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_route(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-route", scope["route"].path.encode()))
            await send(message)

        await self.app(scope, receive, send_with_route)


def declared(triton: FakeTriton, **options: Any) -> TritonFrontend:
    frontend = TritonFrontend(triton=triton, settings=Settings(), **options)
    frontend.infer(PATH, model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    return frontend


async def post(app: TritonFrontend, path: str, body: dict[str, Any], **options: Any) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False, **options)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.post(path, json=body)


async def test_middleware_of_the_app_sees_the_request_and_its_route(
    triton: FakeTriton, body: Callable[..., dict[str, Any]]
) -> None:
    response = await post(declared(triton, middleware=[Middleware(RouteHeaderMiddleware)]), PATH, body())
    assert (response.status_code, response.headers["x-route"]) == (200, PATH)


async def test_dependencies_of_the_app_apply_to_declared_endpoints(
    triton: FakeTriton, body: Callable[..., dict[str, Any]]
) -> None:
    async def refuse() -> None:
        raise HTTPException(403, "not you")

    app = declared(triton, dependencies=[Depends(refuse)])
    assert (await post(app, PATH, body())).status_code == 403


async def test_an_endpoint_declared_while_the_app_runs_is_found(
    triton: FakeTriton, body: Callable[..., dict[str, Any]]
) -> None:
    app = declared(triton)
    assert (await post(app, "/later", body())).status_code == 404
    app.infer("/later", model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    assert (await post(app, "/later", body())).status_code == 200


async def test_a_mounted_app_finds_its_endpoints(triton: FakeTriton, body: Callable[..., dict[str, Any]]) -> None:
    outer = TritonFrontend(triton=FakeTriton(), settings=Settings())
    outer.mount("/under", declared(triton))
    assert (await post(outer, f"/under{PATH}", body())).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_another_method_is_rejected(triton: FakeTriton, method: str) -> None:
    transport = httpx2.ASGITransport(app=declared(triton))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        response = await http.request(method, PATH)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_an_error_handler_of_the_app_gets_an_endpoints_error_once(
    triton: FakeTriton, body: Callable[..., dict[str, Any]]
) -> None:
    handled: list[Exception] = []

    async def handle(_: Request, error: Exception) -> Response:
        handled.append(error)
        return PlainTextResponse("mine", status_code=418)

    app = declared(triton, exception_handlers={InvalidRequestError: handle})
    refused = await post(app, PATH, {**body(), "promt": "a"})
    assert (refused.status_code, refused.text) == (418, "mine")
    (error,) = handled
    assert isinstance(error, InvalidRequestError)
    assert (await post(app, PATH, body())).status_code == 200
