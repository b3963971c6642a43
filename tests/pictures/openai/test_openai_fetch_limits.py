# SPDX-License-Identifier: Apache-2.0
"""Pictures by URL: how many are fetched at once, for one caller and for all, and never for an invalid request."""

import asyncio
import socket
import threading
import time
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any, Self

import pytest
from picture_server import Pictures, fetched, image_urls_of
from pydantic import Field, model_validator

import main
from fastapi_triton import Settings
from fastapi_triton.core import public_urls
from fastapi_triton.core.context import Caller, current_caller, current_deadline
from fastapi_triton.core.errors import FastAPITritonError, OverloadedError, TooManyRequestsError
from fastapi_triton.pictures.openai.fetch_slots import FetchSlots
from fastapi_triton.pictures.openai.image_urls import ImageURLs
from fastapi_triton.testing import FakeTriton
from support.app_on_socket import listening
from support.scribble_app import base64_picture, picture
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_inputs

EDITS, GENERATIONS = "/v1/images/edits", "/v1/images/generations"


def start(
    work: Coroutine[Any, Any, Any], *, caller: str = "address:10.0.0.1", deadline: float | None = None
) -> asyncio.Task[Any]:
    """A task of a request by this caller."""
    context = copy_context()
    context.run(current_caller.set, Caller(caller))
    context.run(current_deadline.set, deadline)
    return asyncio.create_task(work, context=context)


async def refusal(task: asyncio.Task[Any]) -> FastAPITritonError:
    with pytest.raises(FastAPITritonError) as raised:
        await asyncio.wait_for(task, 30)
    return raised.value


async def test_one_caller_with_slow_urls_leaves_slots_for_others(pictures: Pictures) -> None:
    urls = image_urls_of(anywhere=True)
    slow = [start(fetched(urls, f"{pictures.url}/silent"), caller="key:greedy") for _ in range(10)]
    await pictures.received(2)
    for caller in ("key:other", "address:10.0.0.1", "address:10.0.0.2"):
        found = await asyncio.wait_for(start(fetched(urls, f"{pictures.url}/a"), caller=caller), 30)
        assert found == [base64_picture()]
    assert [each.path for each in pictures.requests].count("/silent") == 2
    late = time.monotonic() + 0.05
    error = await refusal(start(fetched(urls, f"{pictures.url}/a"), caller="key:greedy", deadline=late))
    assert (error.status, error.code, error.retry_after_s) == (429, "too_many_image_urls", 1.0)
    assert "Send the pictures' bytes" in error.detail
    assert len(pictures.requests) == 5
    pictures.is_closing.set()
    assert await asyncio.wait_for(asyncio.gather(*slow), 30) == [[base64_picture()]] * 10


async def test_a_cancelled_request_frees_its_slot(pictures: Pictures) -> None:
    urls = image_urls_of(anywhere=True)
    slow = [start(fetched(urls, f"{pictures.url}/silent")) for _ in range(3)]
    await pictures.received(2)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert await asyncio.wait_for(start(fetched(urls, f"{pictures.url}/a")), 30) == [base64_picture()]


async def test_if_many_callers_hold_all_slots_the_server_is_busy(pictures: Pictures) -> None:
    urls = image_urls_of(anywhere=True)
    slow = [start(fetched(urls, f"{pictures.url}/silent"), caller=f"key:{number // 2}") for number in range(8)]
    await pictures.received(8)
    late = time.monotonic() + 0.05
    error = await refusal(start(fetched(urls, f"{pictures.url}/a"), caller="key:other", deadline=late))
    assert (error.status, error.code, error.retry_after_s) == (503, "image_urls_busy", 1.0)
    assert "try again later" in error.detail
    pictures.is_closing.set()
    await asyncio.gather(*slow)


async def test_after_the_deadline_nothing_is_fetched(pictures: Pictures) -> None:
    urls = image_urls_of(anywhere=True)
    error = await refusal(start(fetched(urls, f"{pictures.url}/silent"), deadline=time.monotonic() - 1))
    assert (error.status, error.code) == (504, "deadline_exceeded")
    assert not pictures.requests


async def test_only_a_few_pictures_are_fetched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = image_urls_of()
    running, most = 0, 0

    async def fetched(self: ImageURLs, *_: Any) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return picture()

    monkeypatch.setattr(ImageURLs, "_fetched", fetched)

    def all_of(num_callers: int) -> list[asyncio.Task[bytes]]:
        return [
            start(
                urls._picture("image", "https://1.1.1.1/", 10_000, urls.share()),
                caller=f"key:{number % num_callers}",
            )
            for number in range(30)
        ]

    await asyncio.gather(*all_of(1))
    assert most == 2
    await asyncio.gather(*all_of(10))
    assert most == 8


async def test_a_slow_dns_lookup_keeps_its_slot_when_the_request_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = image_urls_of(anywhere=True)
    begun, go_on = threading.Semaphore(0), threading.Event()

    def lookup(*_: Any) -> list[Any]:
        begun.release()
        go_on.wait(30)
        raise socket.gaierror

    monkeypatch.setattr(public_urls.socket, "getaddrinfo", lookup)
    tasks = [start(fetched(urls, "https://slow.example/"), caller="key:greedy") for _ in range(2)]
    for _ in tasks:
        await asyncio.to_thread(begun.acquire)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    late = time.monotonic() + 0.05
    error = await refusal(start(fetched(urls, "https://slow.example/"), caller="key:greedy", deadline=late))
    assert error.code == "too_many_image_urls"
    assert urls._slots._of_all._value == 6
    go_on.set()
    error = await refusal(start(fetched(urls, "https://slow.example/"), caller="key:greedy"))
    assert error.code == "image_url_failed"
    assert not urls._slots._callers
    assert urls._slots._of_all._value == 8


async def test_a_second_url_that_is_not_allowed_keeps_the_first_from_being_fetched(pictures: Pictures) -> None:
    urls = image_urls_of(anywhere=True)
    error = await refusal(start(fetched(urls, [f"{pictures.url}/a", "https://user:secret@example.com/"])))
    assert error.code == "invalid_image_url"
    assert not pictures.requests


async def test_callers_without_requests_are_forgotten() -> None:
    slots = FetchSlots(total=1, per_caller=1)
    forever, at_once = asyncio.get_running_loop().time() + 30, asyncio.get_running_loop().time()
    async with slots.slot("a", until=forever):
        with pytest.raises(TooManyRequestsError):
            await slots.slot("a", until=at_once).__aenter__()
        with pytest.raises(OverloadedError):
            await slots.slot("b", until=at_once).__aenter__()
        assert set(slots._callers) == {"a"}
    assert not slots._callers
    async with slots.slot("b", until=forever):
        pass


INVALID: list[tuple[dict[str, Any], str, str]] = [
    ({"n": 11}, "n", "out_of_range"),
    ({"n": 3}, "n", "unsupported_parameter"),
    ({"n": 2, "stream": True}, "n", "unsupported_parameter"),
    ({"size": "large"}, "size", "invalid_value"),
    ({"output_format": "gif"}, "output_format", "unsupported_parameter"),
    ({"sizes": "128x128"}, "sizes", "unknown_field"),
    ({"prompt": ""}, "prompt", "too_short"),
    ({"num_inference_steps": 0}, "num_inference_steps", "out_of_range"),
    ({"n": 2, "seed": 2**63 - 1}, "seed", "out_of_range"),
    ({"model": "unheard-of"}, "model", "model_not_found"),
    ({"response_format": "url"}, "response_format", "unsupported_parameter"),
]


@pytest.mark.parametrize(("fields", "param", "code"), INVALID)
async def test_an_invalid_request_fetches_nothing(
    triton: FakeTriton,
    pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    param: str,
    code: str,
) -> None:
    monkeypatch.setattr(public_urls, "check", lambda *_, **__: None)
    monkeypatch.setattr(public_urls, "_public_socket", None)
    app = app_of(triton, Settings(fetch_image_urls=True, max_in_flight=2, picture_urls_max_bytes=0))
    bodies: list[tuple[str, dict[str, Any]]] = [
        (EDITS, {"image": f"{pictures.url}/a"}),
        (EDITS, {"image": base64_picture(), "mask": f"{pictures.url}/a"}),
        (GENERATIONS, {"init_image": f"{pictures.url}/a"}),
    ]
    async with listening(app) as client:
        for path, picture_fields in bodies:
            response = await client.post(path, json={"prompt": "a", **picture_fields, **fields})
            error = response.json()["error"]
            assert (error["param"], error["code"]) == (param, code), error
        assert not pictures.requests
        response = await client.post(EDITS, json={"prompt": "a", "image": f"{pictures.url}/a"})
        assert response.status_code == 200, response.text
    assert len(pictures.requests) == 1
    assert [each["image"] for each in stream_inputs(triton)] == [base64_picture()]


class LimitedRequest(main.ScribbleRequest):
    """An endpoint's own rules: for one field, and for two together."""

    width: int | None = Field(None, le=2048)

    @model_validator(mode="after")
    def _require_picture(self) -> Self:
        if self.strength is not None and self.init_image is None:
            raise ValueError("strength needs init_image")
        return self


async def test_the_endpoints_own_rules_apply_before_a_fetch_if_they_need_no_picture(
    triton: FakeTriton, pictures: Pictures, stream_model: ScriptedStreamModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_urls, "check", lambda *_, **__: None)
    monkeypatch.setattr(public_urls, "_public_socket", None)
    stream_model.further_description = {"sizes": []}  # so every size is passed on
    app = app_of(triton, Settings(fetch_image_urls=True), LimitedRequest)
    async with listening(app) as client:
        body = {"prompt": "a", "init_image": f"{pictures.url}/a", "strength": 0.5}
        response = await client.post(GENERATIONS, json=body | {"size": "9999x128"})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "size")
        assert not pictures.requests
        assert (await client.post(GENERATIONS, json=body)).status_code == 200
    assert [each["init_image"] for each in stream_inputs(triton)] == [base64_picture()]
