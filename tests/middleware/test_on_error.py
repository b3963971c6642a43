# SPDX-License-Identifier: Apache-2.0
"""Starlette's error handling is asked for an error, and only while nothing of an answer has gone out."""

from functools import partial
from typing import Any

import pytest
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_triton.middleware.on_error import OnErrorMiddleware
from fastapi_triton.middleware.request_recording import ObservingMiddleware

SCOPE: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "headers": []}


class ExpectedError(Exception):
    pass


async def handler(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{request.method}: {error}", 418)


async def run(app: ASGIApp, scope: Scope, messages: list[Message]) -> None:
    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        raise AssertionError("nobody asks")

    handling = partial(ExceptionMiddleware, handlers={ExpectedError: handler})
    await ObservingMiddleware(OnErrorMiddleware(app, handling))(dict(scope), receive, send)


async def test_an_error_is_told_by_its_handler() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ExpectedError("a reason")

    messages: list[Message] = []
    await run(app, SCOPE, messages)
    head, body = messages
    assert (head["status"], body["body"]) == (418, b"POST: a reason")


async def test_what_has_no_handler_passes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("a bug")

    messages: list[Message] = []
    with pytest.raises(KeyError, match="a bug"):
        await run(app, SCOPE, messages)
    assert not messages


async def test_an_answer_that_has_begun_gets_no_second_head() -> None:
    messages: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ExpectedError("too late")

    with pytest.raises(ExpectedError, match="too late"):
        await run(app, SCOPE, messages)
    assert [each["type"] for each in messages] == ["http.response.start"]


async def test_what_is_no_request_passes_untouched() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ExpectedError("at the start")

    with pytest.raises(ExpectedError, match="at the start"):
        await run(app, {"type": "lifespan"}, [])
