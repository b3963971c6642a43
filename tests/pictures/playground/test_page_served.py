# SPDX-License-Identifier: Apache-2.0
"""How the page is served: headers, caching, and apps without a page. `test_page` tests the page itself."""

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


def page_config(text: str) -> dict[str, Any]:
    """The page's configuration."""
    found = re.search(r'<script type="application/json" id="config">(.*?)</script>', text)
    assert found
    config: dict[str, Any] = json.loads(found[1])
    return config


async def test_the_page_allows_no_other_hosts_and_no_inline_code(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton)) as http:
        response = await http.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"https?://(?!www\.w3\.org/)|\son[a-z]+=|\sstyle=|<style|<script>", response.text)


async def test_the_page_uses_the_first_endpoint_that_can_draw(triton: FakeTriton) -> None:
    class Plain(BaseModel):
        text: str

    app = TritonFrontend(triton=triton)
    app.infer("/plain", model="plain", stream_model="plain_stream", request=Plain, response=Plain)
    app.infer("/once", model=MODEL, request=main.ScribbleRequest, response=main.ScribbleResponse)
    async with visitor(app) as http:
        assert (await http.get("/")).headers["location"] == "/docs"  # a prompt and a picture, but no stream model
        assert (await http.get("/playground/model")).status_code == 404
        app.infer(
            "/draw",
            model=MODEL,
            stream_model="stream_model",
            request=main.ScribbleRequest,
            response=main.ScribbleResponse,
        )
        config = page_config((await http.get("/")).text)
    assert (config["endpoint"], config["image"], config["picture"]) == ("draw", "image", "generated_image")
    assert "seed" in config["fields"]


async def test_all_files_of_the_page_exist_are_cached_forever_and_are_small(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton)) as http:
        response = await http.get("/")
        addresses = {*re.findall(r'(?:src|href)="(playground/[^"]+)"', response.text)}
        addresses |= {each["file"] for each in page_config(response.text)["examples"]}
        assert len(addresses) > 10
        num_bytes = int(response.headers["content-length"])
        for address in addresses:
            file = await http.get(f"/{address}")
            assert file.status_code == 200, address
            assert "immutable" in file.headers["cache-control"]
            assert file.headers["x-content-type-options"] == "nosniff"
            num_bytes += int(file.headers["content-length"])
        assert num_bytes < 100_000
        assert response.headers["content-encoding"] == "gzip"
        plain = await http.get("/", headers={"Accept-Encoding": "identity"})
        assert (plain.text, "content-encoding" in plain.headers) == (response.text, False)
        assert (await http.get("/playground/0123456789ab/page.js")).status_code == 404  # of another version


async def test_the_page_is_revalidated_and_sent_only_when_it_changed(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton)) as http:
        response = await http.get("/")
        assert response.headers["cache-control"] == "no-cache"
        again = await http.get("/", headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await http.head("/")).status_code == 200


async def test_every_module_is_preloaded_and_every_import_exists(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton)) as http:
        text = (await http.get("/")).text
    scripts = {path.name: path.read_text() for path in page._STATIC.iterdir() if path.suffix == ".js"}
    workers = {name for script in scripts.values() for name in re.findall(r'new Worker\(new URL\("([^"]+)"', script)}
    assert workers < scripts.keys()
    for name, script in scripts.items():
        assert (f"/{name}" in text) is (name not in workers)  # a worker loads its own script
        for imported in re.findall(r'from "\./([^"]+)"', script):
            assert imported in scripts, f"{name}: {imported}"


async def test_a_title_cannot_break_out_of_the_page(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton, title="</title><script>alert(1)</script>")) as http:
        assert "<script>alert" not in (await http.get("/")).text


async def test_a_setting_turns_the_page_off(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton, settings=Settings(playground=False))) as http:
        assert (await http.get("/")).headers["location"] == "/docs"
        assert (await http.get("/playground/model")).status_code == 404


async def test_without_docs_there_is_no_link_and_no_redirect_to_them(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton, docs_url=None)) as http:
        assert '<a id="docs" href=""' in (await http.get("/")).text
    async with visitor(TritonFrontend(triton=triton, docs_url=None)) as http:
        assert (await http.get("/")).status_code == 404


async def test_the_page_works_below_a_prefix(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton), root_path="/below") as http:
        text = (await http.get("/")).text
    assert not re.search(r'(?:src|href)="/', text)
    assert not page_config(text)["endpoint"].startswith("/")


async def test_a_model_that_is_not_ready_is_reported_with_200_and_the_reason(triton: FakeTriton) -> None:
    async with visitor(drawing_app(triton)) as http:
        response = await http.get("/playground/model")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["ready"] is False
    assert response.json()["code"] == "model_not_ready"
    assert f"{MODEL}_stream" in response.json()["detail"]


@pytest.mark.parametrize("name", ["examples.py", "index.html", "../page.py", "nope.js"])
async def test_no_other_files_are_served(triton: FakeTriton, name: str) -> None:
    async with visitor(drawing_app(triton)) as http:
        assert (await http.get(f"/playground/{page._version()}/{name}")).status_code == 404
