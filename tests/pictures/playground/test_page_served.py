# SPDX-License-Identifier: Apache-2.0
"""How the page is served: headers, caching, and when there is none. What it does is tested in `test_page`."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.pictures.playground import page
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.model_config import ModelConfig
from support.scribble_app import MODEL, PATH, paint


@asynccontextmanager
async def visitor(app: TritonFrontend, **transport: Any) -> AsyncIterator[httpx2.AsyncClient]:
    asgi = httpx2.ASGITransport(app=app, **transport)
    async with httpx2.AsyncClient(transport=asgi, base_url="http://test") as http:
        yield http


@pytest.fixture
def triton(scribble_config: ModelConfig) -> FakeTriton:
    """Without the stream model."""
    fake = FakeTriton()
    fake.add(scribble_config, paint)
    return fake


def drawing_app(triton: FakeTriton, **arguments: Any) -> TritonFrontend:
    app = TritonFrontend(triton=triton, **arguments)
    app.infer(
        PATH,
        model=MODEL,
        stream_model=f"{MODEL}_stream",
        request=main.ScribbleRequest,
        response=main.ScribbleResponse,
    )
    return app


def known(text: str) -> dict[str, Any]:
    """What the page was told of the app."""
    found = re.search(r'<script type="application/json" id="config">(.*?)</script>', text)
    assert found
    told: dict[str, Any] = json.loads(found[1])
    return told


async def test_the_page_allows_nothing_from_elsewhere_and_nothing_inline(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton)) as http:
        answer = await http.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"https?://(?!www\.w3\.org/)|\son[a-z]+=|\sstyle=|<style|<script>", answer.text)


async def test_the_page_is_told_the_first_endpoint_that_can_draw(triton: FakeTriton) -> None:
    class Plain(BaseModel):
        text: str

    app = TritonFrontend(triton=triton)
    app.infer("/plain", model="plain", stream_model="plain_stream", request=Plain, response=Plain)
    app.infer("/once", model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    async with visitor(app) as http:
        assert (await http.get("/")).headers["location"] == "/docs"  # a prompt and a picture, but nothing to watch
        assert (await http.get("/playground/model")).status_code == 404
        app.infer(
            "/draw", model=MODEL, stream_model="twin", request=main.ScribbleRequest, response=main.ScribbleResponse
        )
        told = known((await http.get("/")).text)
    assert (told["endpoint"], told["image"], told["picture"]) == ("draw", "image", "generated_image")
    assert "seed" in told["fields"]


async def test_every_file_of_the_page_is_there_cached_for_good_and_small_in_all(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton)) as http:
        answer = await http.get("/")
        addresses = {*re.findall(r'(?:src|href)="(playground/[^"]+)"', answer.text)}
        addresses |= {each["file"] for each in known(answer.text)["examples"]}
        assert len(addresses) > 10
        num_bytes = len(answer.content)
        for address in addresses:
            file = await http.get(f"/{address}")
            assert file.status_code == 200, address
            assert "immutable" in file.headers["cache-control"]
            assert file.headers["x-content-type-options"] == "nosniff"
            num_bytes += len(file.content)
        assert num_bytes < 100_000
        assert (await http.get("/playground/0123456789ab/page.js")).status_code == 404  # of another version


async def test_the_page_is_asked_for_again_but_sent_only_when_it_changed(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton)) as http:
        answer = await http.get("/")
        assert answer.headers["cache-control"] == "no-cache"
        again = await http.get("/", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await http.head("/")).status_code == 200


async def test_every_module_is_preloaded_and_every_import_is_there(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton)) as http:
        text = (await http.get("/")).text
    modules = [path for path in page._STATIC.iterdir() if path.suffix == ".js"]
    for path in modules:
        assert f"/{path.name}" in text
        for imported in re.findall(r'from "\./([^"]+)"', path.read_text()):
            assert (page._STATIC / imported).is_file(), f"{path.name}: {imported}"


async def test_a_title_cannot_break_out_of_the_page(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton, title="</title><script>alert(1)</script>")) as http:
        assert "<script>alert" not in (await http.get("/")).text


async def test_a_setting_turns_the_page_off(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton, settings=Settings(playground=False))) as http:
        assert (await http.get("/")).headers["location"] == "/docs"
        assert (await http.get("/playground/model")).status_code == 404


async def test_without_docs_there_is_no_link_to_them_and_no_way_there(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton, docs_url=None)) as http:
        assert '<a id="docs" href="">' in (await http.get("/")).text
    async with visitor(TritonFrontend(triton=triton, docs_url=None)) as http:
        assert (await http.get("/")).status_code == 404


async def test_the_page_works_below_a_prefix(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton), root_path="/below") as http:
        text = (await http.get("/")).text
    assert not re.search(r'(?:src|href)="/', text)
    assert not known(text)["endpoint"].startswith("/")


async def test_while_the_model_is_not_there_the_page_is_told_why_and_that_is_no_error(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton)) as http:
        answer = await http.get("/playground/model")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["ready"] is False
    assert answer.json()["code"] == "model_not_ready"
    assert f"{MODEL}_stream" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["examples.py", "index.html", "../page.py", "nope.js"])
async def test_nothing_else_is_served(triton: FakeTriton, name: str) -> None:
    async with visitor(drawing_app(triton)) as http:
        assert (await http.get(f"/playground/{page._version()}/{name}")).status_code == 404
