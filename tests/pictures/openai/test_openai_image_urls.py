# SPDX-License-Identifier: Apache-2.0
"""Pictures of edits as URLs: data URLs always, https URLs only where the setting allows it; and attacks on it."""

import asyncio
import base64
import io
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from picture_server import LIMITS, Pictures, edit_request, fetched, image_urls_of
from PIL import Image

from fastapi_triton import Settings
from fastapi_triton.core import public_urls
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.endpoints.request_body import large_json, raw_body, validation
from fastapi_triton.pictures.openai import image_urls
from fastapi_triton.pictures.openai.image_urls import ImageURLs
from fastapi_triton.testing import FakeTriton
from support.app_on_socket import listening
from support.scribble_app import base64_picture, picture
from support.scripted_stream_model import app_of, stream_inputs

EDITS = "/v1/images/edits"
SCRIBBLE = base64_picture()
DATA_URL = f"data:image/png;base64,{SCRIBBLE}"


async def test_json_may_refer_to_a_picture_in_each_way_that_clients_use(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    references: list[dict[str, Any]] = [
        {"image_url": DATA_URL},
        {"image": DATA_URL},
        {"image": {"image_url": DATA_URL}},
        {"image": {"url": DATA_URL, "type": "image_url"}},
        {"image": [{"type": "image_url", "image_url": {"url": DATA_URL}}]},
        {"images": [{"image_url": DATA_URL}]},
        {"images": [SCRIBBLE]},
        {"images": [{"b64_json": SCRIBBLE}]},
    ]
    for fields in references:
        response = await client.post(EDITS, json={"prompt": "a", **fields})
        assert response.status_code == 200, response.text
    assert [each["image"] for each in stream_inputs(triton)] == [SCRIBBLE] * len(references)


INVALID: list[tuple[dict[str, Any], str, str, str]] = [
    ({"image": []}, "image", "unsupported_parameter", "0 pictures"),
    ({"image": [None]}, "image", "wrong_type", "text"),
    ({"image": {}}, "image", "invalid_value", "image_url"),
    ({"image": {"file_id": "file-1"}}, "image", "unsupported_parameter", "file_id"),
    ({"image": {"image_url": DATA_URL, "url": DATA_URL}}, "image", "invalid_value", "one of"),
    ({"image": {"image_url": {"url": {"url": DATA_URL}}}}, "image", "wrong_type", "text"),
    ({"image_url": "data:image/png;base64,aGVsbG8="}, "image_url", "not_an_image", "image"),
    ({"images": [{"image_url": "https://example.org/a.png"}]}, "image", "image_urls_off", "does not fetch"),
    ({"image": SCRIBBLE, "mask": {"image_url": "HTTP://example.org/"}}, "mask", "image_urls_off", "send the bytes"),
    ({"image": SCRIBBLE, "init_image": "https://example.org/"}, "init_image", "image_urls_off", "send the bytes"),
    ({"image": "ftp://example.org/a.png"}, "image", "invalid_base64", "base64"),
]


async def test_an_invalid_reference_is_refused(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    for fields, param, code, words in INVALID:
        response = await client.post(EDITS, json={"prompt": "a", **fields})
        error = response.json()["error"]
        assert (response.status_code, error["param"], error["code"]) == (400, param, code), error
        assert words in error["message"]
    assert not stream_inputs(triton)


async def test_a_picture_is_fetched(pictures: Pictures) -> None:
    urls = image_urls_of(anywhere=True)
    assert await fetched(urls, [f"{pictures.url}/a", DATA_URL]) == [SCRIBBLE, SCRIBBLE]
    (request,) = pictures.requests
    assert "cookie" not in request.headers
    assert "authorization" not in request.headers


async def test_a_large_fetched_picture_is_checked_in_a_thread(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, check = [], images.check

    def recorded(*arguments: Any, **options: Any) -> None:
        threads.append(threading.current_thread())
        check(*arguments, **options)

    monkeypatch.setattr(images, "check", recorded)
    urls = image_urls_of(anywhere=True)
    await fetched(urls, f"{pictures.url}/a")
    monkeypatch.setattr(raw_body, "LONG_BYTES", 10)
    await fetched(urls, f"{pictures.url}/a")
    small, large = threads
    assert small is threading.main_thread() is not large


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/redirect", "image_url_failed", "returned 302"),
        ("/missing", "image_url_failed", "returned 404"),
        ("/page", "not_an_image", "names a file that is not"),
        ("/compressed", "not_an_image", "names a file that is not"),
        ("/endless", "image_too_large", "too large"),
        ("/silent", "image_url_failed", "too slow"),
    ],
)
async def test_a_server_that_misbehaves_is_an_error_of_the_field(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch, path: str, code: str, words: str
) -> None:
    if path == "/silent":
        monkeypatch.setattr(image_urls, "_TIMEOUT_S", 0.05)
    urls = image_urls_of(anywhere=True)
    with pytest.raises(FastAPITritonError) as raised:
        await fetched(urls, pictures.url + path)
    assert (raised.value.code, raised.value.problems[0].pointer) == (code, "#/image")
    assert words in raised.value.detail
    assert len(pictures.requests) == 1


async def test_the_pictures_of_a_request_have_one_limit(pictures: Pictures) -> None:
    urls = image_urls_of(len(picture()) + 10, anywhere=True)
    with pytest.raises(FastAPITritonError, match="10 bytes are left"):
        await fetched(urls, [f"{pictures.url}/a", f"{pictures.url}/b"])


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/a.png", "https://user@example.org/", "https://127.0.0.1/", "https://[::1]/"),
        *("https://169.254.169.254/latest/meta-data", "https://[::ffff:10.0.0.1]/", "https://[64:ff9b::7f00:1]/"),
        *("https://0.0.0.0/", "https:///a.png", "https://example.org/" + "x" * 2000, "https://[", "HTTPS://10.0.0.1/"),
        *("https://a..example.org/", "https://.example.org/", f"https://{'a' * 64}.example.org/"),
    ],
)
async def test_private_and_invalid_urls_are_rejected(url: str) -> None:
    with pytest.raises(FastAPITritonError) as raised:
        await fetched(image_urls_of(), url)
    assert raised.value.code == "invalid_image_url"


@pytest.mark.parametrize("host", ["rebound.example.org", "localhost", "2130706433", "127.1", "0x7f.1"])
async def test_a_name_of_a_private_address_is_not_contacted_and_nothing_is_told_of_it(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    def found(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(pictures.url.rpartition(":")[2])))]

    def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    details = []
    for lookup in (found, unknown):
        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        with pytest.raises(FastAPITritonError) as raised:
            await fetched(image_urls_of(), f"https://{host}/")
        details.append(raised.value.detail)
    assert details[0] == details[1]  # so clients cannot learn which names the server's network has
    assert "127.0.0.1" not in details[0]
    assert not pictures.requests


async def test_the_pictures_of_all_requests_count_as_their_bodies_do(pictures: Pictures) -> None:
    urls = image_urls_of(anywhere=True, num_buffered=2 * len(picture()))
    share = urls.share()
    request = edit_request().model_validate({"prompt": "a", "image": f"{pictures.url}/a"}, context=LIMITS)
    await urls.fetch(request, LIMITS, share)
    with pytest.raises(FastAPITritonError) as raised:
        await fetched(urls, [f"{pictures.url}/b", f"{pictures.url}/c"])
    assert raised.value.code == "body_buffers_full"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_finished_request_counts_no_pictures(
    triton: FakeTriton, pictures: Pictures, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(public_urls, "check", lambda *_, **__: None)
    monkeypatch.setattr(public_urls, "_public_socket", None)
    app = app_of(triton, Settings(fetch_image_urls=True, max_buffered_body_bytes=len(picture())))
    async with listening(app) as client:
        for path in ("/a", "/page", "/a"):
            body = {"prompt": "a", "image": pictures.url + path, "stream": stream}
            response = await client.post(EDITS, json=body)
            assert ("not_an_image" in response.text) == (path == "/page"), response.text
            assert "body_buffers_full" not in response.text
            assert app._body_buffers.num_bytes == 0


async def test_slow_lookups_do_not_occupy_the_threads_of_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over, num_lookups = threading.Event(), 0

    def slow(*_: Any, **__: Any) -> list[Any]:
        nonlocal num_lookups
        num_lookups += 1
        is_over.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(image_urls, "_TIMEOUT_S", 0.05)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    try:
        for _ in range(2):
            with pytest.raises(FastAPITritonError, match="too slow"):
                await fetched(image_urls_of(), "https://example.org/")
        assert num_lookups
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 30) == "free"
    finally:
        is_over.set()


async def test_the_setting_turns_it_on(triton: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetched(self: ImageURLs, *_: Any) -> bytes:
        return picture()

    monkeypatch.setattr(ImageURLs, "_fetched", fetched)
    async with listening(app_of(triton, Settings(fetch_image_urls=True))) as client:
        for body in ({"image": "https://example.org/a"}, {"images": [{"image_url": "https://example.org/a"}]}):
            assert (await client.post(EDITS, json={"prompt": "a", **body})).status_code == 200
        form = {"prompt": "a", "image": "https://example.org/a"}
        response = await client.post(EDITS, files={name: (None, value) for name, value in form.items()})
        assert response.status_code == 200, response.text
    assert [each["image"] for each in stream_inputs(triton)] == [base64.b64encode(picture()).decode()] * 3


def large_picture() -> str:
    """Base64 text of more than a megabyte."""
    file = io.BytesIO()
    Image.effect_noise((1100, 1100), 99).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_only_pictures_may_be_large() -> None:
    large, edit = large_picture(), edit_request()
    assert len(large) > large_json.UNCHECKED_BYTES
    limits = ImageLimits(10_000_000)
    for image in (large, [large, large], {"image_url": large}, [{"image_url": {"url": large}}]):
        body = json.dumps({"prompt": "a", "image": image}).encode()
        request = validation.from_json(body, edit, limits)
        assert set(request.image) == {large}  # type: ignore[attr-defined]
    for wrong in ({"prompt": large, "image": SCRIBBLE}, {"prompt": "a", "image": SCRIBBLE, "seed": large}):
        with pytest.raises(FastAPITritonError) as raised:
            validation.from_json(json.dumps(wrong).encode(), edit, limits)
        assert raised.value.code == "text_too_long"
