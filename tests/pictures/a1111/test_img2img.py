# SPDX-License-Identifier: Apache-2.0
"""`/sdapi/v1/img2img`: the picture to change, the mask, and the scribble of a ControlNet unit."""

from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

from fastapi_triton import Base64Image, Settings
from fastapi_triton.core.errors import FieldProblem, InvalidRequestError
from fastapi_triton.testing import FakeTriton
from support.app_on_socket import listening
from support.scribble_app import base64_picture
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_inputs

IMG2IMG = "/sdapi/v1/img2img"
INITIAL, MASK, SCRIBBLE = (base64_picture(size=(16 * n, 16 * n)) for n in (1, 2, 3))
REQUEST: dict[str, Any] = {"prompt": "a red house", "seed": 4, "init_images": [INITIAL]}


async def made(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await client.post(IMG2IMG, json=REQUEST | fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_the_fields_and_the_unit_are_translated_to_the_models_inputs(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    body = await made(
        client,
        steps=9,
        denoising_strength=0.5,
        mask=MASK,
        inpainting_mask_invert=1,
        mask_blur=2,
        inpainting_fill=1,
        inpaint_full_res=False,
        alwayson_scripts={"controlnet": {"args": [{"image": SCRIBBLE, "weight": 0.5}]}},
    )
    assert stream_inputs(triton) == [
        {
            "prompt": "a red house",
            "prompt_syntax": "a1111",
            "seed": 4,
            "num_inference_steps": 9,
            "init_image": INITIAL,
            "strength": 0.5,
            "mask": MASK,
            "mask_selects": "black",
            "mask_blur": 2.0,
            "image": SCRIBBLE,
            "conditioning_scale": 0.5,
            "control_guidance_start": 0.0,
            "control_guidance_end": 1.0,
            "invert": "auto",
            "output_format": "png",
            "preview_every": 1,
        }
    ]
    assert body["notes"] == []
    assert not {"init_images", "mask"} & set(body["parameters"])


async def test_omitted_fields_have_a1111s_defaults(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    await made(client)
    await made(client, mask=MASK)
    plain, masked = stream_inputs(triton)
    assert (plain["init_image"], plain["strength"]) == (INITIAL, 0.75)
    assert not {"image", "mask", "mask_blur", "mask_selects"} & set(plain)
    assert (masked["mask"], masked["mask_selects"], masked["mask_blur"]) == (MASK, "white", 4.0)


async def test_notes_say_what_a1111_does_differently(client: httpx2.AsyncClient) -> None:
    fields = {"mask": MASK, "inpainting_fill": 0, "inpaint_full_res": True, "resize_mode": 0}
    body = await made(client, **fields, width=128, height=128, init_images=[base64_picture(size=(64, 32))])
    size, fill, whole = body["notes"]
    assert "resized and filled" in size
    assert "original content" in fill
    assert "whole picture" in whole


@pytest.mark.parametrize(
    ("fields", "name", "code"),
    [
        ({"init_images": []}, "init_images", "unsupported_parameter"),
        ({"init_images": [INITIAL, INITIAL]}, "init_images", "unsupported_parameter"),
        ({"init_images": None}, "init_images", "wrong_type"),
        ({"init_images": ["aGVsbG8="]}, "init_images", "not_an_image"),
        ({"mask": "!"}, "mask", "invalid_base64"),
        ({"denoising_strength": 1.5}, "denoising_strength", "out_of_range"),
        ({"inpainting_mask_invert": 2}, "inpainting_mask_invert", "out_of_range"),
        ({"tiling": True}, "tiling", "unsupported_parameter"),
    ],
)
async def test_an_invalid_value_is_rejected(
    client: httpx2.AsyncClient, triton: FakeTriton, fields: dict[str, Any], name: str, code: str
) -> None:
    response = await client.post(IMG2IMG, json=REQUEST | fields)
    problem = response.json()["errors"][0]
    assert (response.status_code, problem["code"], problem["pointer"]) == (422, code, f"#/{name}")
    assert not stream_inputs(triton)


async def test_a_picture_is_required(client: httpx2.AsyncClient) -> None:
    response = await client.post(IMG2IMG, json={"prompt": "a red house"})
    assert (response.status_code, response.json()["code"]) == (422, "missing_field")


async def test_an_endpoint_without_these_fields_rejects_them(triton: FakeTriton, settings: Settings) -> None:
    class Scribbles(BaseModel):
        prompt: str
        image: Base64Image
        conditioning_scale: float = 1.0

    async with listening(app_of(triton, settings, Scribbles)) as client:
        response = await client.post(IMG2IMG, json=REQUEST)
        assert (response.status_code, response.json()["code"]) == (422, "unsupported_parameter")
        assert response.json()["errors"][0]["pointer"] == "#/init_images"


async def test_errors_of_the_model_have_a1111s_field_names(
    client: httpx2.AsyncClient, stream_model: ScriptedStreamModel
) -> None:
    problem = FieldProblem("#/strength", "out_of_range", "`strength` is 0.05; it leaves no step")
    stream_model.fails_at_once = InvalidRequestError(problem.detail, code="out_of_range", problems=[problem])
    response = await client.post(IMG2IMG, json=REQUEST | {"denoising_strength": 0.05})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "#/denoising_strength"
    assert response.json()["detail"].startswith("`denoising_strength` is")


async def test_txt2img_refers_to_it(client: httpx2.AsyncClient) -> None:
    response = await client.post("/sdapi/v1/txt2img", json=REQUEST)
    assert response.status_code == 422
    assert "`img2img`" in response.json()["detail"]
