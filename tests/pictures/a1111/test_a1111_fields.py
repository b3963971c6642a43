# SPDX-License-Identifier: Apache-2.0
"""No field of A1111's schemas is ignored in silence: each is served, rejected, or noted."""

import json
from typing import Any

import httpx2
import pytest

from fastapi_triton.pictures.a1111 import unserved
from fastapi_triton.pictures.a1111.img2img import Img2ImgRequest
from fastapi_triton.pictures.a1111.schemas import Txt2ImgRequest
from fastapi_triton.pictures.unserved_fields import MAX_NOTES
from fastapi_triton.testing import FakeTriton
from support.scribble_app import base64_picture
from support.scripted_stream_model import ScriptedStreamModel, stream_inputs

TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
PROMPT = {"prompt": "a red house", "seed": 4}
INITIAL = {"init_images": [base64_picture()]}
WIDE = {"init_images": [base64_picture(size=(16, 8))], "width": 128, "height": 128}
MASKED = INITIAL | {"mask": base64_picture(size=(4, 4))}

# The fields of `StableDiffusionProcessingTxt2Img` and `…Img2Img` in A1111's /openapi.json, version 1.10, each with a
# value that is not its default.
TXT2IMG_FIELDS: dict[str, Any] = {
    "alwayson_scripts": {"reactor": {"args": [True]}},
    "batch_size": 2,
    "cfg_scale": 3.5,
    "comments": {"note": "mine"},
    "denoising_strength": 0.5,
    "disable_extra_networks": True,
    "do_not_save_grid": True,
    "do_not_save_samples": True,
    "enable_hr": True,
    "eta": 0.5,
    "firstpass_image": "aGVsbG8=",
    "firstphase_height": 64,
    "firstphase_width": 64,
    "force_task_id": "task-1",
    "height": 128,
    "hr_checkpoint_name": "other",
    "hr_negative_prompt": "blurry",
    "hr_prompt": "sharp",
    "hr_resize_x": 256,
    "hr_resize_y": 256,
    "hr_sampler_name": "Euler",
    "hr_scale": 1.5,
    "hr_scheduler": "Karras",
    "hr_second_pass_steps": 5,
    "hr_upscaler": "ESRGAN_4x",
    "infotext": "a house\nSteps: 9",
    "n_iter": 2,
    "negative_prompt": "blurry",
    "override_settings": {"eta_noise_seed_delta": 31337},
    "override_settings_restore_afterwards": False,
    "prompt": "a blue house",
    "refiner_checkpoint": "refiner",
    "refiner_switch_at": 0.5,
    "restore_faces": True,
    "s_churn": 5,
    "s_min_uncond": 1,
    "s_noise": 1.1,
    "s_tmax": 5,
    "s_tmin": 0.1,
    "sampler_index": "Euler",
    "sampler_name": "Euler",
    "save_images": True,
    "scheduler": "Exponential",
    "script_args": [1],
    "script_name": "x/y/z plot",
    "seed": 5,
    "seed_resize_from_h": 64,
    "seed_resize_from_w": 64,
    "send_images": False,
    "steps": 9,
    "styles": ["a style"],
    "subseed": 3,
    "subseed_strength": 0.5,
    "tiling": True,
    "width": 128,
}
IMG2IMG_FIELDS: dict[str, Any] = {
    "image_cfg_scale": 2,
    "include_init_images": True,
    "init_images": [base64_picture(size=(8, 8))],
    "initial_noise_multiplier": 0.9,
    "inpaint_full_res_padding": 8,
    "inpainting_fill": 2,
    "inpainting_mask_invert": 1,
    "latent_mask": "aGVsbG8=",
    "mask": base64_picture(),
    "mask_blur": 8,
    "mask_blur_x": 8,
    "mask_blur_y": 8,
    "mask_round": False,
    "resize_mode": 1,
}
# The fields of a unit in the ControlNet extension, version 1.1.455.
UNIT_FIELDS: dict[str, Any] = {
    "advanced_weighting": [1.0],
    "animatediff_batch": True,
    "batch_image_files": ["a.png"],
    "batch_images": "folder",
    "batch_keyframe_idx": "1",
    "batch_mask_dir": "folder",
    "batch_modifiers": ["x"],
    "control_mode": "ControlNet is more important",
    "effective_region_mask": "aGVsbG8=",
    "enabled": False,
    "guidance_end": 0.5,
    "guidance_start": 0.5,
    "hr_option": "High res only",
    "image": base64_picture(size=(8, 8)),
    "input_mode": "batch",
    "ipadapter_input": ["aGVsbG8="],
    "loopback": True,
    "mask": base64_picture(),
    "model": "depth",
    "module": "canny",
    "output_dir": "folder",
    "processor_res": 256,
    "pulid_mode": "Extreme style",
    "resize_mode": "Just Resize",
    "threshold_a": 0.5,
    "threshold_b": 0.5,
    "union_control_type": "Depth",
    "use_preview_as_input": True,
    "weight": 0.5,
}
# Served, although neither the picture nor the response shows it: nothing is stored, and tasks have names.
MEANS_WHAT_HAPPENS = {"do_not_save_grid", "do_not_save_samples", "force_task_id"}
# Neutral, whatever their values: only the speed depends on them, or a preprocessor that is not there.
WITHOUT_EFFECT = {"inpaint_crop_input_image", "is_ui", "low_vram", "lowvram", "pixel_perfect", "save_detected_map"}


async def outcome(
    client: httpx2.AsyncClient, triton: FakeTriton, body: dict[str, Any], route: str = TXT2IMG
) -> tuple[Any, list[str]]:
    """What the model got and the client sees, and the notes. A rejection has only its status."""
    before = len(stream_inputs(triton))
    response = await client.post(route, json=PROMPT | body)
    if response.status_code != 200:
        assert response.status_code == 422, response.text
        return response.status_code, []
    content = response.json()
    info = json.loads(content["info"])
    info.pop("job_timestamp")
    assert info.pop("notes") == content["notes"]
    return (stream_inputs(triton)[before:], content["images"], info), content["notes"]


@pytest.mark.parametrize(
    ("route", "required"),
    [(TXT2IMG, {}), (IMG2IMG, INITIAL), (IMG2IMG, MASKED), (IMG2IMG, WIDE)],
    ids=["txt2img", "img2img", "with a mask", "of another shape"],
)
async def test_each_field_is_served_rejected_or_noted(
    client: httpx2.AsyncClient, triton: FakeTriton, route: str, required: dict[str, Any]
) -> None:
    plain, no_notes = await outcome(client, triton, required, route)
    assert no_notes == []
    ignored = []
    for name, value in (TXT2IMG_FIELDS | IMG2IMG_FIELDS).items():
        found, notes = await outcome(client, triton, required | {name: value}, route)
        if found == plain and not are_about(notes, name, value):
            ignored.append(name)
    # It means something only for a picture of another shape than the requested one.
    assert set(ignored) - {"resize_mode", "width", "height"} == MEANS_WHAT_HAPPENS
    assert ("resize_mode" in ignored) == (required in (INITIAL, MASKED))
    assert required is WIDE or not {"width", "height"} & set(ignored)


async def test_each_field_of_a_unit_is_served_rejected_or_noted(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    def body(**unit: Any) -> dict[str, Any]:
        scripts = {"controlnet": {"args": [{"image": base64_picture(), **unit}]}}
        return {"width": 128, "height": 128, "alwayson_scripts": scripts}

    plain, no_notes = await outcome(client, triton, body())
    assert no_notes == []
    ignored = []
    for name, value in UNIT_FIELDS.items():
        found, notes = await outcome(client, triton, body(**{name: value}))
        if found == plain and not are_about(notes, name, value):
            ignored.append(name)
    assert ignored == []


def are_about(notes: list[str], name: str, value: Any) -> bool:
    """Whether a note has the field's name, or its value."""
    members = [str(each) for each in value] if isinstance(value, dict | list) else [str(value), str(value).lower()]
    return any(word in note for note in notes for word in (name, *members))


def test_these_lists_have_every_field_that_the_server_knows() -> None:
    sent = TXT2IMG_FIELDS.keys() | IMG2IMG_FIELDS.keys() | UNIT_FIELDS.keys() | WITHOUT_EFFECT
    known = Txt2ImgRequest.model_fields.keys() | Img2ImgRequest.model_fields.keys()
    known |= unserved.TXT2IMG.keys() | unserved.IMG2IMG.keys()
    # Of other versions, and of a form that is not in the schema.
    ours = {"clip_skip", "controlnet_units", "generated_image", "guessmode", "inpaint_full_res", "seed_enable_extras"}
    assert (known | unserved.CONTROLNET.keys()) - sent <= ours


async def test_the_values_that_clients_send_with_each_request_need_no_note(client: httpx2.AsyncClient) -> None:
    neutral = {name: field.neutral[0] for name, field in unserved.TXT2IMG.items() if field.neutral}
    defaults = {
        "eta": 1.0,
        "subseed_strength": 0.0,
        "enable_hr": False,
        "hr_prompt": "",
        "styles": [],
        "infotext": None,
    }
    response = await client.post(TXT2IMG, json=PROMPT | neutral | defaults)
    assert (response.status_code, response.json()["notes"]) == (200, [])


async def test_a_note_has_the_value_or_the_nearest_name(client: httpx2.AsyncClient) -> None:
    fields = {
        "stpes": 9,
        "distilled": 3.5,
        "s_churn": 5,
        "override_settings": {"samples_format": "jpg"},
    }
    assert (await client.post(TXT2IMG, json=PROMPT | fields)).json()["notes"] == [
        "There is no field `stpes`; did you mean `steps`? It was ignored.",
        "There is no field `distilled`. It was ignored.",
        "`s_churn` is 5, and was ignored: it is not supported.",
        'override_settings: `samples_format` is "jpg", and was ignored: pictures are PNG.',
    ]


async def test_the_number_of_notes_is_bounded(client: httpx2.AsyncClient) -> None:
    many = {f"unknown_{index}": index for index in range(100)}
    notes = (await client.post(TXT2IMG, json=PROMPT | many)).json()["notes"]
    assert (len(notes), notes[-1]) == (MAX_NOTES + 1, "80 more fields were ignored.")


async def test_an_impossible_clip_skip_is_rejected(client: httpx2.AsyncClient) -> None:
    for value in (0, 13, "13", "two", True, 1.5, "1.5", [2]):
        body = PROMPT | {"override_settings": {"CLIP_stop_at_last_layers": value}}
        response = await client.post(TXT2IMG, json=body)
        assert (response.status_code, response.json()["code"]) == (422, "out_of_range")
        assert "CLIP_stop_at_last_layers" in response.json()["detail"]


async def test_query_options_are_noted(client: httpx2.AsyncClient) -> None:
    response = await client.post(f"{TXT2IMG}?steps=9&x=1", json=PROMPT)
    assert response.json()["notes"] == ["The URL's query was ignored: `steps`, `x`. Send fields in the body."]


async def test_the_models_notes_are_there_once_with_a1111s_names(
    client: httpx2.AsyncClient, stream_model: ScriptedStreamModel
) -> None:
    stream_model.notes = ["`guidance_scale` is too low."]
    response = await client.post(TXT2IMG, json=PROMPT | {"n_iter": 2})
    assert response.json()["notes"] == ["`cfg_scale` is too low."]
