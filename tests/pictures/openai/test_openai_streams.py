# SPDX-License-Identifier: Apache-2.0
"""`/v1` with `stream`: OpenAI's events and errors."""

import base64
import io

import httpx2
from PIL import Image

from fastapi_triton.core.errors import InferenceError, InvalidRequestError
from fastapi_triton.testing import FakeTriton
from support.received_events import events_of
from support.scribble_app import base64_picture
from support.scripted_stream_model import ScriptedStreamModel, stream_inputs

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


async def test_a_stream_has_partial_images_and_the_picture_as_openais_events(socket_client: httpx2.AsyncClient) -> None:
    body = {"prompt": "a red house", "stream": True, "partial_images": 1, "seed": 3, "size": "1024x1024"}
    for path, kind in ((GENERATIONS, "image_generation"), (EDITS, "image_edit")):
        scribble = {"image": base64_picture()} if path == EDITS else {}
        async with socket_client.stream("POST", path, json={**body, **scribble, "output_format": "jpeg"}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            events = [each async for each in events_of(response)]
        assert [each.name for each in events] == ["", f"{kind}.partial_image", f"{kind}.completed"]
        partial, completed = events[1].data, events[2].data
        for each in (partial, completed):
            assert each["output_format"] == "jpeg"
            assert (each["quality"], each["background"]) == ("auto", "opaque")
            assert isinstance(each["created_at"], int)
            image = Image.open(io.BytesIO(base64.b64decode(each["b64_json"])))
            assert (image.format, f"{image.width}x{image.height}") == ("JPEG", each["size"])
        assert (partial["partial_image_index"], partial["size"]) == (0, "128x128")
        assert (completed["seed"], completed["usage"]["total_tokens"]) == (3, 0)
        assert completed["notes"] == ["1024x1024 is not supported; the nearest size, 128x128, is used."]


async def test_previews_are_spread_over_the_steps_that_strength_leaves(
    socket_client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    body = {"prompt": "x", "image": base64_picture(), "stream": True, "partial_images": 3, "num_inference_steps": 12}
    for more in ({}, {"scribble": base64_picture(), "strength": 0.5}):
        assert (await socket_client.post(EDITS, json=body | more)).status_code == 200
    assert [each["preview_every"] for each in stream_inputs(triton)] == [3, 1]


async def test_previews_are_spread_over_the_steps_of_the_preset(
    socket_client: httpx2.AsyncClient, triton: FakeTriton, stream_model: ScriptedStreamModel
) -> None:
    presets = {"draft": {"num_inference_steps": 4}, "quality": {"num_inference_steps": 30}}
    stream_model.further_description = {"presets": presets}
    for preset in presets:
        body = {"prompt": "x", "stream": True, "partial_images": 2, "preset": preset}
        assert (await socket_client.post("/v1/images/generations", json=body)).status_code == 200
    assert [each["preview_every"] for each in stream_inputs(triton)] == [1, 10]


async def test_a_stream_that_fails_ends_with_openais_error_event(
    socket_client: httpx2.AsyncClient, stream_model: ScriptedStreamModel
) -> None:
    body = {"prompt": "a red house", "stream": True}
    stream_model.fails_after_a_step = InferenceError("NaN.", code="generation_failed")
    async with socket_client.stream("POST", GENERATIONS, json=body) as response:
        assert response.status_code == 200
        events = [each async for each in events_of(response)]
    assert events[-1].name == "error"
    assert events[-1].data == {
        "type": "error",
        "error": {"message": "NaN.", "type": "server_error", "param": None, "code": "generation_failed"},
    }
    stream_model.fails_at_once = InvalidRequestError("No such scheduler.", code="unknown_scheduler")
    assert (await socket_client.post(GENERATIONS, json=body)).status_code == 400


async def test_a_position_in_the_models_queue_is_a_comment(
    socket_client: httpx2.AsyncClient, stream_model: ScriptedStreamModel
) -> None:
    stream_model.positions = [2, 1]
    body = {"prompt": "a red house", "stream": True}
    async with socket_client.stream("POST", GENERATIONS, json=body) as response:
        comments = [each.data async for each in events_of(response) if not each.name]
    assert comments == [
        "queued position=2 estimated_wait_s=4.7 estimated_total_s=9.0",
        "queued position=1 estimated_wait_s=2.3 estimated_total_s=9.0",
    ]
