# SPDX-License-Identifier: Apache-2.0
"""Pictures in A1111's requests: only those of a valid request are read, and large ones in a thread."""

import threading
from typing import Any

import httpx2
import pytest

from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.request_body import json_text, raw_body
from fastapi_triton.testing import FakeTriton
from support.scribble_app import base64_picture
from support.scripted_stream_model import stream_inputs

TXT2IMG, OPTIONS, INTERNAL_PROGRESS = "/sdapi/v1/txt2img", "/sdapi/v1/options", "/internal/progress"


@pytest.fixture
def examined_in(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which pictures were read."""
    threads: list[threading.Thread] = []
    examine = images.examine

    def recorded(*arguments: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        return examine(*arguments, **options)

    monkeypatch.setattr(images, "examine", recorded)
    return threads


def with_units(count: int, **fields: Any) -> dict[str, Any]:
    units = [{"image": base64_picture(), **fields}] * count
    return {"prompt": "a red house", "alwayson_scripts": {"controlnet": {"args": units}}}


async def test_units_are_counted_before_their_pictures_are_read(
    client: httpx2.AsyncClient, triton: FakeTriton, examined_in: list[threading.Thread]
) -> None:
    response = await client.post(TXT2IMG, json=with_units(10))
    assert (response.status_code, response.json()["code"]) == (422, "unsupported_parameter")
    assert "10 ControlNet units" in response.json()["detail"]
    assert not examined_in
    assert not stream_inputs(triton)


@pytest.mark.parametrize(
    ("path", "picture"),
    [
        (TXT2IMG, {}),
        ("/sdapi/v1/img2img", {"init_images": [base64_picture()]}),
    ],
)
async def test_the_pictures_of_a_long_body_are_read_in_a_thread(
    client: httpx2.AsyncClient,
    examined_in: list[threading.Thread],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    picture: dict[str, Any],
) -> None:
    body = with_units(1) | picture
    assert (await client.post(path, json=body)).status_code == 200
    assert set(examined_in) == {threading.main_thread()}
    examined_in.clear()
    monkeypatch.setattr(raw_body, "LONG_BYTES", 10)
    assert (await client.post(path, json=body)).status_code == 200
    assert len(examined_in) == 1 + len(picture)
    assert threading.main_thread() not in examined_in


@pytest.mark.parametrize("path", [OPTIONS, INTERNAL_PROGRESS])
async def test_other_long_bodies_are_read_in_a_thread(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    threads = []
    check = json_text.require_unique_members

    def recorded(*arguments: Any) -> None:
        threads.append(threading.current_thread())
        check(*arguments)

    monkeypatch.setattr(json_text, "require_unique_members", recorded)
    monkeypatch.setattr(raw_body, "LONG_BYTES", 10)
    assert (await client.post(path, json={"id_task": "a long name"})).status_code == 200
    assert threads
    assert threading.main_thread() not in threads
