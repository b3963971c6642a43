# SPDX-License-Identifier: Apache-2.0
"""`response_format: url`: signed URLs of pictures, which expire; and attacks on them."""

import asyncio
import base64
import errno
import io
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx2
import pytest
from PIL import Image

from fastapi_triton import Settings
from fastapi_triton.pictures.openai import picture_store
from fastapi_triton.pictures.openai.picture_store import PictureStore
from fastapi_triton.testing import FakeTriton
from support.api_keys import DRAWS, WATCHES, bearer, block
from support.scripted_stream_model import app_of, stream_inputs

GENERATIONS = "/v1/images/generations"
PLAIN = {"prompt": "a red house", "seed": 4}
DATA = b"0" * 100


def client_of(triton: FakeTriton, settings: Settings, url: str = "http://test") -> Any:
    @asynccontextmanager
    async def running() -> AsyncIterator[httpx2.AsyncClient]:
        app = app_of(triton, settings)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=url) as client:
            yield client

    return running()


async def made(client: httpx2.AsyncClient, **fields: Any) -> str:
    response = await client.post(GENERATIONS, json=PLAIN | {"response_format": "url"} | fields)
    assert response.status_code == 200, response.text
    (found,) = response.json()["data"]
    assert "b64_json" not in found
    assert found["seed"] == 4
    return str(found["url"])


@pytest.mark.parametrize("fields", [{"response_format": "url"}, {"response_format": "URL"}, {"model": "dall-e-3"}])
async def test_the_url_has_the_picture(client: httpx2.AsyncClient, fields: dict[str, Any]) -> None:
    body = (await client.post(GENERATIONS, json=PLAIN | fields | {"n": 2, "output_format": "webp"})).json()
    assert [sorted(each) for each in body["data"]] == [["info", "seed", "url"]] * 2
    for each in body["data"]:
        assert each["url"].startswith("http://test/v1/images/files/")
        response = await client.get(each["url"])
        assert (response.status_code, response.headers["content-type"]) == (200, "image/webp")
        assert Image.open(io.BytesIO(response.content)).size == (16, 12)
        assert response.headers["cache-control"].startswith("private, max-age=3")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert response.headers["content-disposition"].startswith('inline; filename="')
        assert (await client.head(each["url"])).headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize(
    "fields",
    [{}, {"model": "gpt-image-1"}, {"response_format": ""}, {"model": "dall-e-3", "response_format": "b64_json"}],
)
async def test_other_requests_have_base64_text(client: httpx2.AsyncClient, fields: dict[str, Any]) -> None:
    (found,) = (await client.post(GENERATIONS, json=PLAIN | fields)).json()["data"]
    assert sorted(found) == ["b64_json", "info", "seed"]


async def test_a_stream_has_base64_text_and_a_note(socket_client: httpx2.AsyncClient) -> None:
    body = PLAIN | {"stream": True, "response_format": "url"}
    text = (await socket_client.post(GENERATIONS, json=body)).text
    assert "b64_json" in text
    assert '`response_format` is \\"url\\", and was ignored: a stream has b64_json.' in text


async def test_the_url_is_the_clients_own_view_of_the_server(triton: FakeTriton) -> None:
    settings = Settings(trusted_proxies=("127.0.0.1",), root_path="/draw")
    seen = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pictures.example.org", "X-Forwarded-For": "1.1.1.1"}
    async with client_of(triton, settings) as client:
        for path in (f"/draw{GENERATIONS}", GENERATIONS):  # a proxy may strip the prefix or not
            response = await client.post(path, json=PLAIN | {"model": "dall-e-2"}, headers=seen)
            url = response.json()["data"][0]["url"]
            assert url.startswith("https://pictures.example.org/draw/v1/images/files/")
            assert (await client.get(url, headers=seen)).status_code == 200


async def test_the_url_needs_no_key_and_opens_nothing_else(triton: FakeTriton, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(block("web", DRAWS, 'scopes = ["infer"]'))
    async with client_of(triton, Settings(api_keys_file=str(keys))) as client:
        response = await client.post(GENERATIONS, json=PLAIN | {"response_format": "url"}, headers=bearer(DRAWS))
        url = response.json()["data"][0]["url"]
        assert (await client.get(url)).status_code == 200
        name = url.rpartition("/")[2]
        for method, target in (
            ("POST", url),
            ("DELETE", url),
            ("GET", url.replace(f"files/{name}", "files/../../models")),
            ("GET", url.replace(f"files/{name}", "files")),
        ):
            assert (await client.request(method, target)).status_code == 401


async def test_all_processes_that_share_a_folder_serve_the_picture_also_after_a_restart(
    triton: FakeTriton, tmp_path: Path
) -> None:
    settings = Settings(jobs_folder=str(tmp_path / "shared"))
    async with client_of(triton, settings) as first, client_of(triton, settings) as second:
        url = await made(first)
        assert (await second.get(url)).status_code == 200
    async with client_of(triton, settings) as third:
        assert (await third.get(url)).status_code == 200
    async with client_of(triton, Settings(jobs_folder=str(tmp_path / "other"))) as stranger:
        assert (await stranger.get(url)).json()["error"]["code"] == "invalid_signature"


def changed(url: str, at: int) -> str:
    return url[:at] + ("0" if url[at] != "0" else "1") + url[at + 1 :]


async def test_a_changed_or_cut_off_url_is_refused(client: httpx2.AsyncClient) -> None:
    url = await made(client)
    name_at = url.index("files/") + 6
    for wrong in (
        *(changed(url, name_at + offset) for offset in (0, 7, 9, 20)),  # expiry, caller, id
        changed(url, len(url) - 1),
        url[:-1],
        url.partition("?")[0],
        url + "0",
        url.replace("signature=", "signature=%C3%A9"),
        url.partition("=")[0] + "=%00%FF" + "a" * 5000,
    ):
        response = await client.get(wrong)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "invalid_signature"), wrong
    assert (await client.get(url)).status_code == 200


NOT_NAMES = [
    *("secret", "lock", "..%2F..%2Fetc%2Fpasswd", "..", "%2e%2e%2fsecret", "x.png", "%00", "a" * 5000),
    *("FFFFFFFF-00000000-00000000000000000000000000000000.png", "\u0660" * 8 + "-" + "0" * 8 + "-" + "0" * 32 + ".png"),
    "00000000-00000000-00000000000000000000000000000000.png%0a",
]


async def test_other_names_are_not_found(client: httpx2.AsyncClient) -> None:
    await made(client)
    for name in NOT_NAMES:
        response = await client.get(f"/v1/images/files/{name}?signature=0")
        assert response.status_code == 404, response.text
        assert response.json()["error"]["type"] == "invalid_request_error"


async def test_an_expired_or_removed_picture_is_gone(
    client: httpx2.AsyncClient, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await made(client)
    folder = temporary_folder / f"fastapi-triton-pictures-{os.getuid()}"
    with monkeypatch.context() as later:
        now = time.time()
        later.setattr(picture_store.time, "time", lambda: now + picture_store.KEEP_S + 1)
        response = await client.get(url)
        assert (response.status_code, response.json()["error"]["code"]) == (410, "picture_expired")
        assert "60 minutes" in response.json()["error"]["message"]
        PictureStore.of(Settings()).sweep()
        assert not names(folder)
    response = await client.get(url)
    assert response.status_code == 410
    assert "make room" in response.json()["error"]["message"]


async def test_caches_keep_a_picture_until_its_url_expires(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, now = await made(client), time.time()
    monkeypatch.setattr(picture_store.time, "time", lambda: now + picture_store.KEEP_S - 100)
    _, _, max_age = (await client.get(url)).headers["cache-control"].partition("max-age=")
    assert 0 < int(max_age.partition(",")[0]) <= 100


async def test_expired_pictures_are_removed_in_the_background(
    triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, is_swept = asyncio.get_running_loop(), asyncio.Event()
    monkeypatch.setattr(PictureStore, "sweep", lambda _: loop.call_soon_threadsafe(is_swept.set))
    async with client_of(triton, Settings()):
        await asyncio.wait_for(is_swept.wait(), 60)


@pytest.mark.parametrize("fields", [{"response_format": "url"}, {"model": "dall-e-3"}])
async def test_pictures_that_exceed_the_stores_limit_are_sent_as_base64_text_with_a_note(
    triton: FakeTriton, temporary_folder: Path, fields: dict[str, str]
) -> None:
    async with client_of(triton, Settings(picture_urls_max_bytes=10)) as client:
        response = await client.post(GENERATIONS, json=PLAIN | fields | {"n": 2})
    require_base64_with_note(response, count=2)
    assert len(stream_inputs(triton)) == 2  # the model made each picture once
    assert names(temporary_folder / f"fastapi-triton-pictures-{os.getuid()}") == []


async def test_pictures_are_not_lost_with_the_disk(
    client: httpx2.AsyncClient, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(PictureStore, "add", Mock(side_effect=error))
    require_base64_with_note(await client.post(GENERATIONS, json=PLAIN | {"response_format": "url"}), count=1)
    assert len(stream_inputs(triton)) == 1
    assert "No space left on device" in caplog.text


def require_base64_with_note(response: httpx2.Response, *, count: int) -> None:
    body = response.json()
    assert [sorted(each) for each in body["data"]] == [["b64_json", "info", "seed"]] * count, body
    assert body["notes"][-1] == "The pictures could not be stored, so the response has b64_json instead of url."


async def test_each_callers_pictures_are_counted_separately(triton: FakeTriton, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(block("web", DRAWS, 'scopes = ["infer"]') + block("phone", WATCHES, 'scopes = ["infer"]'))
    callers = []
    async with client_of(triton, Settings(api_keys_file=str(keys))) as client:
        for key in (DRAWS, DRAWS, WATCHES):
            body = PLAIN | {"response_format": "url"}
            response = await client.post(GENERATIONS, json=body, headers=bearer(key))
            name = response.json()["data"][0]["url"].rpartition("/")[2]
            callers.append(name.split("-")[1])
    assert callers[0] == callers[1] != callers[2]


async def test_a_picture_is_sent_in_pieces_so_that_slow_clients_hold_little_memory(
    triton: FakeTriton, tmp_path: Path
) -> None:
    app, sent = app_of(triton, Settings(jobs_folder=str(tmp_path))), []
    data = b"\x89PNG" + bytes(1_000_000)
    transport = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
        path, _, query = (await made(client)).removeprefix("http://t").partition("?")
        (tmp_path / "pictures" / path.rpartition("/")[2]).write_bytes(data)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": []}
        await app(
            {**scope, "query_string": query.encode(), "state": {}, "client": None}, asyncio.Queue[Any]().get, send
        )
    start, *pieces = sent
    assert dict(start["headers"])[b"content-length"] == str(len(data)).encode()
    assert b"".join(each["body"] for each in pieces) == data
    assert max(len(each["body"]) for each in pieces) <= 64 * 1024


def test_pictures_that_were_stored_while_the_clock_was_wrong_do_not_stay_for_years(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now = PictureStore(tmp_path, 10**9), time.time()
    for shift in (10**8, 60):
        monkeypatch.setattr(picture_store.time, "time", lambda shift=shift: now + shift)
        kept = store.add([(DATA, "png")], caller="a")
    monkeypatch.setattr(picture_store.time, "time", lambda: now)
    store.sweep()
    assert names(tmp_path) == kept  # a clock that was adjusted by a minute changes nothing


async def test_urls_can_be_off(triton: FakeTriton, temporary_folder: Path) -> None:
    async with client_of(triton, Settings(picture_urls_max_bytes=0)) as client:
        response = await client.post(GENERATIONS, json=PLAIN | {"response_format": "url"})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "response_format")
        body = (await client.post(GENERATIONS, json=PLAIN | {"model": "dall-e-3"})).json()
        assert "b64_json" in body["data"][0]
        assert "stores no pictures" in body["notes"][-1]
        stream = await client.post(GENERATIONS, json=PLAIN | {"response_format": "url", "stream": True})
        assert "b64_json" in stream.text
    assert names(temporary_folder, "") == []


async def test_a_folder_that_cannot_be_used_is_an_error_before_the_picture_is_made(
    client: httpx2.AsyncClient, triton: FakeTriton, temporary_folder: Path
) -> None:
    elsewhere = temporary_folder / "elsewhere"
    elsewhere.mkdir()
    (temporary_folder / f"fastapi-triton-pictures-{os.getuid()}").symlink_to(elsewhere)
    response = await client.post(GENERATIONS, json=PLAIN | {"response_format": "url"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "pictures_unavailable")
    assert not any("describe" not in inputs for _, inputs, _ in triton.requests)
    assert names(elsewhere, "") == []


def names(folder: Path, end: str = ".png") -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.name.endswith(end))


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_store.os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(PermissionError):
        PictureStore(tmp_path, 10**9).add([(DATA, "png")], caller="a")
    assert names(tmp_path, "") == []


def test_a_folder_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    PictureStore(tmp_path, 10**9).prepare()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_the_oldest_pictures_of_a_caller_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = PictureStore(tmp_path, 3 * len(DATA)), time.time()
    added = []
    for number in range(5):
        monkeypatch.setattr(picture_store.time, "time", lambda number=number: now + number)
        added += store.add([(DATA, "png")], caller="a")
    assert names(tmp_path) == added[-3:]
    assert len(store.add([(DATA, "png")] * 3, caller="a")) == 3  # the limit itself


def test_a_flood_of_one_caller_leaves_the_pictures_of_others(tmp_path: Path) -> None:
    store = PictureStore(tmp_path, 10 * len(DATA))
    kept = store.add([(DATA, "png")] * 3, caller="careful")
    for _ in range(50):
        store.add([(DATA, "png")], caller="flood")
    assert set(kept) < set(names(tmp_path))
    assert len(names(tmp_path)) == 10
    assert store.num_bytes == 10 * len(DATA)
    with pytest.raises(picture_store.StoreFullError):
        store.add([(DATA, "png")] * 11, caller="flood")
    assert set(kept) < set(names(tmp_path))


def test_a_flood_of_tiny_pictures_leaves_the_large_ones_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_store, "MAX_PICTURES", 10)
    store = PictureStore(tmp_path, 10**9)
    kept = store.add([(DATA * 100, "png")] * 3, caller="careful")
    for _ in range(50):
        store.add([(DATA, "png")], caller="flood")
    assert set(kept) < set(names(tmp_path))
    assert len(names(tmp_path)) == 10


def test_a_flood_of_large_pictures_leaves_the_many_tiny_ones_of_others(tmp_path: Path) -> None:
    store = PictureStore(tmp_path, 20 * len(DATA))
    kept = store.add([(DATA, "png")] * 9, caller="careful")
    for _ in range(3):
        store.add([(DATA * 5, "png")], caller="flood")
    assert set(kept) < set(names(tmp_path))


def test_the_number_of_pictures_is_limited_and_unfinished_files_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_store, "MAX_PICTURES", 4)
    store = PictureStore(tmp_path, 10**9)
    for number in range(6):
        store.add([(DATA, "png")], caller=str(number % 2))
    *_, last = store.add([(DATA, "png")] * 3, caller="0")
    assert len(names(tmp_path)) == 4
    unfinished = tmp_path / f".{last}.k1ll3d"
    unfinished.write_bytes(DATA)
    now = time.time()
    monkeypatch.setattr(picture_store.time, "time", lambda: now + picture_store.KEEP_S + 1)
    PictureStore(tmp_path, 10**9).sweep()
    assert names(tmp_path, "") == ["lock", "secret"]
    assert tmp_path.stat().st_mode & 0o077 == 0


async def test_processes_that_store_at_once_stay_within_the_limit(tmp_path: Path) -> None:
    stores = [PictureStore(tmp_path, 20 * len(DATA)) for _ in range(4)]
    add: Callable[[PictureStore], list[str]] = lambda store: store.add([(DATA, "png")] * 2, caller="a")  # noqa: E731
    added = await asyncio.gather(*(asyncio.to_thread(add, store) for store in stores * 10))
    assert len(names(tmp_path)) == 20
    assert len({name for each in added for name in each}) == 80


async def test_a_url_can_be_the_next_requests_picture(client: httpx2.AsyncClient) -> None:
    data = (await client.get(await made(client))).content
    image = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    response = await client.post("/v1/images/edits", json=PLAIN | {"image_url": image, "response_format": "url"})
    assert response.status_code == 200


async def test_metrics_show_the_stored_bytes(client: httpx2.AsyncClient) -> None:
    size = len((await client.get(await made(client))).content)
    assert f"fastapi_triton_stored_picture_bytes {float(size)}" in (await client.get("/metrics")).text


async def test_a_strange_host_only_harms_its_own_request(client: httpx2.AsyncClient) -> None:
    for host in ('a"b<script>', "[::1", "a@b", "", "x" * 5000, "a/../b?c#d"):
        body = PLAIN | {"response_format": "url"}
        response = await client.post(GENERATIONS, json=body, headers={"Host": host})
        assert response.status_code == 200, response.text
        path = response.json()["data"][0]["url"].rpartition("/v1/")[2]
        assert (await client.get(f"/v1/{path}")).status_code == 200
