# SPDX-License-Identifier: Apache-2.0
"""The member `info` of responses: a JSON text with A1111's members, also for interrupted pictures."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from support.scripted_stream_model import ScriptedStreamModel

TXT2IMG, PROGRESS, INTERRUPT = "/sdapi/v1/txt2img", "/sdapi/v1/progress", "/sdapi/v1/interrupt"
# The size of the fake model's pictures, whatever the request.
PAINTED = (16, 12)
# The members that A1111 1.10 sends, except its own version.
MEMBERS = {
    *("prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds", "subseed"),
    *("all_subseeds", "subseed_strength", "width", "height", "sampler_name", "cfg_scale", "steps", "batch_size"),
    *("restore_faces", "face_restoration_model", "sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash"),
    *("seed_resize_from_w", "seed_resize_from_h", "denoising_strength", "extra_generation_params"),
    *("index_of_first_image", "infotexts", "styles", "job_timestamp", "clip_skip", "is_using_inpainting_conditioning"),
}


@pytest.fixture(autouse=True)
def described(stream_model: ScriptedStreamModel) -> None:
    stream_model.further_description = {"defaults": {"num_inference_steps": 8, "guidance_scale": 2.5}}


def info_of(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    text = response.json()["info"]
    assert isinstance(text, str)
    info: dict[str, Any] = json.loads(text)
    assert set(info) - {"info", "notes"} == MEMBERS
    return info


async def test_info_has_a1111s_members(client: httpx2.AsyncClient) -> None:
    fields = {"negative_prompt": "blurry", "seed": 4, "n_iter": 2, "width": 128, "height": 128, "steps": 9}
    sampling = {"cfg_scale": 3.5, "sampler_name": "Euler a"}
    info = info_of(await client.post(TXT2IMG, json={"prompt": "a red house", **fields, **sampling}))
    expected = {
        "prompt": "a red house",
        "all_prompts": ["a red house"] * 2,
        "negative_prompt": "blurry",
        "all_negative_prompts": ["blurry"] * 2,
        "seed": 4,
        "all_seeds": [4, 5],
        "width": PAINTED[0],
        "height": PAINTED[1],
        "steps": 9,
        "cfg_scale": 3.5,
        "sampler_name": "Euler a",
        "batch_size": 1,
    }
    assert {name: info[name] for name in expected} == expected
    assert [text.split("\n")[0] for text in info["infotexts"]] == ["a red house"] * 2
    assert ["Seed: 4," in info["infotexts"][0], "Seed: 5," in info["infotexts"][1]] == [True, True]


@pytest.mark.parametrize("send_images", [True, False])
async def test_omitted_fields_have_the_values_that_were_used(client: httpx2.AsyncClient, *, send_images: bool) -> None:
    info = info_of(await client.post(TXT2IMG, json={"prompt": "a red house", "send_images": send_images}))
    assert (info["steps"], info["cfg_scale"], info["width"], info["height"]) == (8, 2.5, *PAINTED)
    assert info["infotexts"][0].split("\n")[1].startswith("Steps: 8, ")
    assert isinstance(info["seed"], int)


@pytest.mark.parametrize("fields", [{"width": 128, "height": 128}, {}])
async def test_an_interrupted_picture_has_its_size_and_settings(
    socket_client: httpx2.AsyncClient, stream_model: ScriptedStreamModel, fields: dict[str, Any]
) -> None:
    stream_model.holds_before = 2
    stream_model.go_on.clear()
    body = {"prompt": "a red house", "seed": 4, **fields}
    drawing = asyncio.create_task(socket_client.post(TXT2IMG, json=body))
    while (await socket_client.get(PROGRESS)).json()["progress"] == 0:
        pass
    await socket_client.post(INTERRUPT)
    info = info_of(await drawing)
    assert (info["steps"], info["cfg_scale"], info["seed"]) == (8, 2.5, 4)
    assert (info["width"], info["height"]) == (128, 128)
