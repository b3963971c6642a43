# SPDX-License-Identifier: Apache-2.0
"""Payloads as A1111 saves them: values as text, null for defaults, scripts that ask for nothing, units that are off."""

from typing import Any

import httpx2

from fastapi_triton.pictures.a1111.img2img import Img2ImgRequest
from fastapi_triton.pictures.a1111.schemas import Txt2ImgRequest
from fastapi_triton.testing import FakeTriton
from support.scribble_app import base64_picture
from support.scripted_stream_model import stream_inputs

TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
PROMPT = {"prompt": "a red house", "seed": 4}
SCRIBBLE, OTHER = base64_picture(), base64_picture(size=(8, 8))


async def made(
    client: httpx2.AsyncClient, triton: FakeTriton, body: dict[str, Any], route: str = TXT2IMG
) -> tuple[dict[str, Any], list[str]]:
    """The model's inputs, and the notes."""
    response = await client.post(route, json=body)
    assert response.status_code == 200, response.text
    return stream_inputs(triton)[-1], response.json()["notes"]


def unit(**fields: Any) -> dict[str, Any]:
    return PROMPT | {"alwayson_scripts": {"controlnet": {"args": [fields]}}}


async def test_nothing_stands_for_the_default_in_every_field(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    for route, model, required in (
        (TXT2IMG, Txt2ImgRequest, PROMPT),
        (IMG2IMG, Img2ImgRequest, PROMPT | {"init_images": [SCRIBBLE]}),
    ):
        plain, _ = await made(client, triton, required, route)
        for nothing in (None, "None", "none", "null"):
            body = required | {name: nothing for name in model.model_fields if name not in required}
            body["negative_prompt"] = None  # "None" is a text like any other there
            assert await made(client, triton, body, route) == (plain, [])


async def test_a_prompt_may_be_a_word_that_stands_for_nothing_elsewhere(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    for word in ("None", "null", "false", "True"):
        sent, _ = await made(client, triton, {"prompt": word, "negative_prompt": word})
        assert (sent["prompt"], sent["negative_prompt"]) == (word, word)


async def test_zero_is_a_value_of_its_own(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    body = unit(image=SCRIBBLE, weight=0, guidance_end=0) | {"seed": 0, "cfg_scale": 0}
    sent, _ = await made(client, triton, body)
    found = [sent[name] for name in ("seed", "guidance_scale", "conditioning_scale", "control_guidance_end")]
    assert found == [0, 0, 0, 0]


async def test_unsupported_features_may_be_off_in_each_notation(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    names = ("enable_hr", "tiling", "script_name", "subseed_strength", "refiner_checkpoint")
    for off in (False, "false", "False", 0, "0", "0.0", "", "none", [], {}):
        body = PROMPT | dict.fromkeys(names, off)
        assert (await made(client, triton, body | {"restore_faces": "false"}))[1] == []


async def test_true_as_a_text_is_true(client: httpx2.AsyncClient) -> None:
    for name in ("enable_hr", "tiling"):
        response = await client.post(TXT2IMG, json=PROMPT | {name: "true"})
        assert (response.status_code, response.json()["code"]) == (422, "unsupported_parameter")
        assert name in response.json()["errors"][0]["pointer"]
        assert response.json()["error"] == "InvalidRequestError"


# As A1111 1.10 and Forge save them, with several extensions.
SCRIPTS: dict[str, Any] = {
    "API payload": {"args": []},
    "ADetailer": {"args": [False, False, {"ad_model": "face_yolov8n.pt", "is_api": []}]},
    "Comments": {"args": []},
    "Dynamic Thresholding (CFG Scale Fix)": {"args": [False, 7, 100, "Constant", 0, "Constant", 0, 4, True]},
    "Extra options": {"args": []},
    "Hypertile": {"args": []},
    "IC Light": {"args": [{"enabled": False, "model_type": "IC-Light.SD15.FC", "remove_bg": True}]},
    "Never OOM Integrated": {"args": [False, False]},
    "ReActor": {"args": [None, False, "0", "0", "inswapper_128.onnx", "CodeFormer", 1, True]},
    "Refiner": {"args": [False, "", 0.8]},
    "Sampler": {"args": [20, "DPM++ 2M", "Automatic"]},
    "Seed": {"args": [-1, False, -1, 0, 0, 0]},
    "Soft Inpainting": {"args": [False, 1, 0.5, 4, 0, 0.5, 2]},
    "VRAM Usage Estimator": {"args": [""]},
    "Of an old version": None,
    "Off as text": {"args": ["false", 3]},
    "Off by other names": {"args": [{"active": False, "x": 1}, {"enable": False, "x": 1}]},
    "Off by one more": [{"is_enabled": "False", "x": 1}],
}


async def test_scripts_that_ask_for_nothing_are_ignored(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    body = PROMPT | {"steps": 20, "sampler_name": "DPM++ 2M", "scheduler": "Automatic"}
    plain, _ = await made(client, triton, body)
    assert await made(client, triton, body | {"alwayson_scripts": SCRIPTS}) == (plain, [])


async def test_a_built_in_script_that_asks_for_something_else_is_noted(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    for name, arguments in (
        ("Sampler", [30, "DPM++ 2M", "Automatic"]),
        ("Sampler", [20, "Euler", "Automatic"]),
        ("Sampler", [20, "DPM++ 2M", "Karras"]),
        ("Seed", [7, False, -1, 0, 0, 0]),
        ("Seed", [-1, True, 5, 0.5, 0, 0]),
        ("Refiner", [True, "refiner", 0.8]),
    ):
        body = PROMPT | {"steps": 20, "sampler_name": "DPM++ 2M", "alwayson_scripts": {name: {"args": arguments}}}
        _, (note,) = await made(client, triton, body)
        assert f'"{name}"' in note


async def test_another_script_that_is_on_is_rejected(client: httpx2.AsyncClient) -> None:
    for arguments in ([True, {}], [{"enabled": True}], ["x"], [None, True], [{"ad_model": "face"}], 3):
        response = await client.post(TXT2IMG, json=PROMPT | {"alwayson_scripts": {"ADetailer": {"args": arguments}}})
        assert (response.status_code, "ADetailer" in response.json()["detail"]) == (422, True)


# ---- Settings


def settings(**values: Any) -> dict[str, Any]:
    return PROMPT | {"override_settings": values}


async def test_nothing_stands_for_the_default_in_settings(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    plain, _ = await made(client, triton, PROMPT)
    names = ("sd_model_checkpoint", "CLIP_stop_at_last_layers", "enable_pnginfo", "sd_vae")
    for nothing in (None, "None", "none", "null"):
        values = dict.fromkeys(names, nothing)
        assert await made(client, triton, settings(**values)) == (plain, [])
        response = await client.post("/sdapi/v1/options", json={"sd_model_checkpoint": nothing})
        assert (response.status_code, response.json()) == (200, None)


async def test_settings_may_be_texts(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    for layers in (3, "3", 3.0, "3.0"):
        sent, (note,) = await made(client, triton, settings(CLIP_stop_at_last_layers=layers))
        assert (sent["clip_skip"], "is 3" in note) == (1, True)
    for value, receipt in ((True, None), ("true", None), (1, None), ("yes", None), ("false", "none"), ("0", "none")):
        sent, _ = await made(client, triton, settings(enable_pnginfo=value))
        assert sent.get("receipt") == receipt


async def test_of_two_values_for_the_skipped_layers_the_other_is_noted(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    sent, (note,) = await made(client, triton, settings(CLIP_stop_at_last_layers=2) | {"clip_skip": 5})
    assert "clip_skip" not in sent
    assert note == "`clip_skip` is 5, and was ignored: override_settings has `CLIP_stop_at_last_layers`, too."
    for other in (1, 2, None):  # 1 and 2 are the same
        assert (await made(client, triton, settings(CLIP_stop_at_last_layers=2) | {"clip_skip": other}))[1] == []


# ---- ControlNet units


async def test_a_unit_that_is_off_is_not_judged(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    wrong = {"image": "no picture", "module": "canny", "model": "depth", "weight": "much", "mask": OTHER}
    plain, _ = await made(client, triton, PROMPT)
    for off in (False, "false", "False", 0, "0", 0.0, "0.0", "no", "No", "off", "OFF", "n", "f", " off "):
        assert await made(client, triton, unit(enabled=off, **wrong)) == (plain, [])
    for on in (True, "true", 1, "1", "yes", "on", None, "None"):
        assert (await made(client, triton, unit(enabled=on, image=SCRIBBLE)))[0]["image"] == SCRIBBLE


async def test_empty_units_are_ignored(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    body = unit() | {"alwayson_scripts": {"controlnet": {"args": [None, {}, {"image": SCRIBBLE}, ""]}}}
    assert (await made(client, triton, body))[0]["image"] == SCRIBBLE


async def test_the_scribble_is_found_in_each_notation(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    for fields in (
        {"image": SCRIBBLE},
        {"input_image": SCRIBBLE},
        {"image": "", "input_image": SCRIBBLE},
        {"image": None, "input_image": SCRIBBLE},
        {"image": {"image": None, "mask": None}, "input_image": SCRIBBLE},
        {"input_image": SCRIBBLE, "image": "None"},
        {"image": SCRIBBLE, "input_image": SCRIBBLE},
        {"image": {"image": SCRIBBLE}},
        {"image": {"image": SCRIBBLE, "mask": ""}},
        {"image": [SCRIBBLE, None]},
        {"image": [[[SCRIBBLE]]]},
        {"image": [{"image": SCRIBBLE, "mask": None}]},
        {"image": f"data:image/png;base64,{SCRIBBLE}", "mask": "", "mask_image": None},
    ):
        sent, notes = await made(client, triton, unit(**fields))
        assert (sent["image"], notes) == (SCRIBBLE, [])


async def test_a_mask_or_a_second_or_no_picture_is_rejected(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    for fields in (
        {"image": [SCRIBBLE, OTHER]},
        {"image": {"image": SCRIBBLE, "mask": OTHER}},
        {"image": SCRIBBLE, "mask_image": OTHER},
        {"image": [{"image": SCRIBBLE}, {"image": OTHER}]},
        {"image": SCRIBBLE, "input_image": OTHER},
        {"image": SCRIBBLE, "guidance": 0.5, "guidance_end": 0.75},
        {"image": []},
        {"image": {}},
        {},
    ):
        response = await client.post(TXT2IMG, json=unit(weight=1, **fields))
        assert (response.status_code, response.json()["code"]) == (422, "unsupported_parameter")
    assert not stream_inputs(triton)


async def test_a_unit_of_each_age_is_understood(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    oldest = {"input_image": SCRIBBLE, "guidance": 0.5, "lowvram": True, "guessmode": False, "resize_mode": 0}
    second = {"image": SCRIBBLE, "control_mode": 0, "pixel_perfect": True, "resize_mode": "Scale to Fit (Inner Fit)"}
    newest = {"image": SCRIBBLE, "control_mode": "Balanced", "resize_mode": "Crop and Resize", "module": "None"}
    nulls = dict.fromkeys(("weight", "guidance_start", "control_mode", "module", "enabled", "processor_res"))
    for fields in (oldest, second, newest, {"image": SCRIBBLE, **nulls}, {"image": SCRIBBLE, "weight": "1.0"}):
        sent, notes = await made(client, triton, unit(**fields))
        assert (sent["image"], sent["conditioning_scale"], notes) == (SCRIBBLE, 1.0, [])
        assert sent["control_guidance_end"] == fields.get("guidance", 1.0)


async def test_a_resize_mode_is_noted_where_it_would_matter(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    for mode in (0, "1", "Crop and Resize", "Just Resize", "Scale to Fit (Inner Fit)"):
        body = unit(image=SCRIBBLE, resize_mode=mode) | {"width": 128, "height": 128}
        _, (note,) = await made(client, triton, body)
        assert "resize_mode" in note
        same_shape = unit(image=OTHER, resize_mode=mode) | {"width": 128, "height": 128}
        assert (await made(client, triton, same_shape))[1] == []
    for mode in (2, "2", "Resize and Fill", "Envelope (Outer Fit)", "Outer Fit (Shrink to Fit)"):
        body = unit(image=SCRIBBLE, resize_mode=mode) | {"width": 128, "height": 128}
        assert (await made(client, triton, body))[1] == []


async def test_a_unit_without_a_picture_uses_that_of_img2img(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    body = unit(module="none", model="control_v11p_sd15_scribble [d4ba51ff]") | {"init_images": [OTHER]}
    sent, (note,) = await made(client, triton, body, IMG2IMG)
    assert (sent["image"], sent["init_image"], "init_images" in note) == (OTHER, OTHER, True)


async def test_units_in_the_older_place_are_used(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    older = {"controlnet_units": [{"input_image": SCRIBBLE}]}
    assert (await made(client, triton, PROMPT | older))[0]["image"] == SCRIBBLE
    both = older | {"alwayson_scripts": {"ControlNet": {"args": older["controlnet_units"]}}}
    assert (await made(client, triton, PROMPT | both))[1] == []
    other = {"alwayson_scripts": {"ControlNet": {"args": [{"image": OTHER}]}}}
    sent, (note,) = await made(client, triton, PROMPT | older | other)
    assert (sent["image"], "controlnet_units" in note) == (OTHER, True)
