# SPDX-License-Identifier: Apache-2.0
"""No field of OpenAI's schemas is ignored in silence: each is served, rejected, or noted."""

from typing import Any

import httpx2
from openai.types import image_edit_params, image_generate_params

from fastapi_triton.testing import FakeTriton
from support.scribble_app import base64_picture
from support.scripted_stream_model import ScriptedStreamModel, stream_inputs

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
PLAIN = {"prompt": "a red house", "seed": 4}
# A value of each field that is not its default.
VALUES: dict[str, Any] = {
    "background": "transparent",
    "complexity": "high",
    "frame_count": 2,
    "frame_duration_ms": 100,
    "image": base64_picture(size=(8, 8)),
    "input_fidelity": "high",
    "markup": base64_picture(),
    "mask": base64_picture(),
    "model": "gpt-image-1",
    "moderation": "low",
    "n": 2,
    "output_compression": 50,
    "output_format": "webp",
    "partial_images": 2,
    "prompt": "a blue house",
    "quality": "high",
    "response_format": "url",
    "safety_identifier": "me",
    "size": "1024x1024",
    "style": "vivid",
    "svg": True,
    "user": "me",
}
# OpenAI's own client has these lists, so a new version of it fails here if it has a new field.
FIELDS = {
    GENERATIONS: image_generate_params.ImageGenerateParamsBase.__annotations__,
    EDITS: image_edit_params.ImageEditParamsBase.__annotations__,
}


async def test_each_field_is_served_rejected_or_noted(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    async def outcome(route: str, fields: dict[str, Any]) -> tuple[Any, str]:
        before = len(stream_inputs(triton))
        required = PLAIN | ({"image": base64_picture()} if route == EDITS else {})
        response = await client.post(route, json=required | fields)
        if response.status_code != 200:
            assert response.status_code == 400
            return response.json()["error"]["param"], ""
        found = [stream_inputs(triton)[before:], sorted(response.json()["data"][0])]
        return found, "".join(response.json().get("notes", ()))

    ignored = []
    for route, names in FIELDS.items():
        plain, no_notes = await outcome(route, {})
        assert no_notes == ""
        for name in names:
            found, notes = await outcome(route, {name: VALUES[name]})
            if found == plain and f"`{name}`" not in notes and str(VALUES[name]) not in notes:
                ignored.append((route, name))
            assert not isinstance(found, str) or found == name
    assert ignored == []


async def test_query_options_are_noted(client: httpx2.AsyncClient) -> None:
    response = await client.post(f"{GENERATIONS}?api-version=1", json=PLAIN)
    assert response.json()["notes"] == ["The URL's query was ignored: `api-version`. Send fields in the body."]


async def test_the_models_notes_are_there_once(client: httpx2.AsyncClient, stream_model: ScriptedStreamModel) -> None:
    stream_model.notes = ["`guidance_scale` is too low."]
    response = await client.post(GENERATIONS, json=PLAIN | {"n": 2})
    assert response.json()["notes"] == stream_model.notes
