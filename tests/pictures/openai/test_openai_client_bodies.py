# SPDX-License-Identifier: Apache-2.0
"""Requests as client programs send them, unchanged, and the part of the response that each of them reads.

`source` names the file in the program's repository, and the commit that was read.
"""

from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from fastapi_triton.testing import FakeTriton
from support.scribble_app import picture
from support.scripted_stream_model import stream_inputs

PROMPT = {"prompt": "a red house"}
GPT = {"model": "gpt-image-1", **PROMPT}
DALL_E = {"model": "dall-e-3", **PROMPT}


@dataclass(frozen=True)
class Sent:
    program: str
    source: str
    fields: dict[str, Any]
    # The member of `data[0]` that the program reads.
    reads: str = "b64_json"
    # The names of the files in a form, which is an edit.
    files: tuple[str, ...] = ()
    query: dict[str, str] = field(default_factory=dict)


OPEN_WEBUI = "backend/open_webui/routers/images.py 02530d5"
LIBRECHAT = "api/app/clients/tools/structured/OpenAIImageTools.js 00b3bc3"
DIFY = "tools/openai/tools/gpt_image_{}.py 286718e (dify-official-plugins)"
SILLY_TAVERN = "public/scripts/extensions/stable-diffusion/index.js 41ac2c0, src/endpoints/openai.js 00a72b5"
REQUESTS = [
    Sent(
        "Open WebUI",
        OPEN_WEBUI,
        {"model": "sdxl_scribble_controlnet", **PROMPT, "n": 1, "size": "512x512", "response_format": "b64_json"},
    ),
    Sent("Open WebUI, gpt-image", OPEN_WEBUI, GPT | {"n": 1, "size": "auto"}, query={"api-version": "2025-04-01"}),
    Sent(
        "Open WebUI, dall-e",
        OPEN_WEBUI,
        DALL_E | {"n": 1, "size": "1024x1024", "response_format": "b64_json"},
    ),
    Sent(
        "Open WebUI, edit",
        OPEN_WEBUI,
        {"model": "sdxl_scribble_controlnet", **PROMPT, "n": "1", "size": "512x512", "response_format": "b64_json"},
        files=("image",),
    ),
    Sent(
        "Open WebUI, edit of two images",
        OPEN_WEBUI,
        GPT | {"n": "1", "background": "transparent"},
        files=("image[]", "image[]"),
    ),
    Sent(
        "LibreChat, DALL-E 3",
        "api/app/clients/tools/structured/specs/DALLE3.spec.js 00b3bc3",
        DALL_E | {"quality": "standard", "style": "vivid", "size": "1024x1024", "n": 1},
        reads="url",
    ),
    Sent(
        "LibreChat, image tool",
        LIBRECHAT,
        GPT | {"n": 1, "background": "auto", "output_format": "png", "quality": "auto", "size": "auto"},
    ),
    Sent("LibreChat, edit tool", LIBRECHAT, GPT | {"quality": "auto", "size": "auto"}, files=("image[]",)),
    Sent(
        "Dify, DALL-E 3",
        "api/core/tools/provider/builtin/dalle/tools/dalle3.py 18f0c32",
        DALL_E | {"size": "1792x1024", "n": 1, "style": "vivid", "quality": "hd", "response_format": "b64_json"},
    ),
    Sent(
        "Dify, image tool",
        DIFY.format("generate"),
        GPT | {"size": "1024x1536", "quality": "low", "background": "transparent", "output_format": "png", "n": 1},
    ),
    Sent("Dify, edit tool", DIFY.format("edit"), GPT | {"size": "1024x1024", "n": "1"}, files=("image", "mask")),
    Sent(
        "SillyTavern, DALL-E 3",
        SILLY_TAVERN,
        DALL_E | {"size": "1024x1792", "n": 1, "quality": "standard", "style": "vivid", "response_format": "b64_json"},
    ),
    Sent(
        "SillyTavern, DALL-E 2",
        SILLY_TAVERN,
        {"model": "dall-e-2", **PROMPT, "size": "512x512", "n": 1, "response_format": "b64_json"},
    ),
    Sent(
        "Nextcloud",
        "lib/Service/OpenAiAPIService.php, lib/TaskProcessing/TextToImageProvider.php 1280f78 (integration_openai)",
        {**PROMPT, "size": "1024x1024", "n": 1, "model": "dall-e-2"},
        reads="url",
    ),
]


@pytest.mark.parametrize("sent", REQUESTS, ids=lambda sent: sent.program)
async def test_a_clients_request_is_served(client: httpx2.AsyncClient, triton: FakeTriton, sent: Sent) -> None:
    if sent.files:
        files = [(name, (f"{name}.png", picture(), "image/png")) for name in sent.files]
        response = await client.post("/v1/images/edits", data=sent.fields, files=files, params=sent.query)
    else:
        response = await client.post("/v1/images/generations", json=sent.fields, params=sent.query)
    assert response.status_code == 200, response.text
    (found,) = response.json()["data"]
    assert found[sent.reads]
    if sent.reads == "url":
        downloaded = await client.get(found["url"])
        assert downloaded.headers["content-type"] == "image/png"
    (inputs,) = stream_inputs(triton)
    assert ("image" in inputs or "init_image" in inputs) == bool(sent.files)


OTHER_WAYS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"size": "128X128"}, {"width": 128, "height": 128}),
    ({"size": " Auto "}, {}),
    ({"size": ""}, {}),
    ({"size": None}, {}),
    ({"output_format": "jpg"}, {"output_format": "jpeg"}),
    ({"output_format": "WEBP"}, {"output_format": "webp"}),
    ({"model": "", "quality": "", "style": "", "user": "", "background": "", "output_format": ""}, {}),
    ({"background": "opaque"}, {}),
    ({"output_format": "webp", "output_compression": 0}, {"output_format": "webp", "output_quality": 1}),
]


async def test_values_may_be_written_in_other_ways(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    plain = {"prompt": "a red house", "seed": 4}
    for fields, expected in OTHER_WAYS:
        response = await client.post("/v1/images/generations", json=plain | fields)
        assert response.status_code == 200, response.text
        assert "notes" not in response.json()
        made = {**plain, "output_format": "png", "conditioning_scale": 1.0}
        assert stream_inputs(triton)[-1] == made | expected


async def test_a_transparent_background_is_noted(client: httpx2.AsyncClient) -> None:
    body = (await client.post("/v1/images/generations", json={**PROMPT, "background": "transparent"})).json()
    assert body["background"] == "opaque"
    assert body["notes"] == ['`background` is "transparent", and was ignored: pictures have no transparency.']


async def test_models_are_found_by_every_name_that_requests_may_have(client: httpx2.AsyncClient) -> None:
    own = "sdxl_scribble_controlnet"
    for name in ("gpt-image-1", "chatgpt-image-latest", "dall-e-3"):
        found = (await client.get(f"/v1/models/{name}")).json()
        assert (found["id"], found["object"], found["parent"]) == (name, "model", own)
        assert (await client.post("/v1/images/generations", json={**PROMPT, "model": name})).status_code == 200
    for name in ("flux", "a/b", f"{own}:unknown", f"{own}:unknown:0.5"):
        response = await client.get(f"/v1/models/{name}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
