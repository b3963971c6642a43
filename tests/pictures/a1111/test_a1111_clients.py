# SPDX-License-Identifier: Apache-2.0
"""The requests of A1111's clients, as their sources send them. The package webuiapi is in `test_webuiapi.py`."""

import base64
import io
import json
from typing import Any

import httpx2
import pytest
from PIL import Image
from response_lists import lists

from fastapi_triton.testing import FakeTriton
from support.scribble_app import MODEL, base64_picture
from support.scripted_stream_model import stream_inputs

TXT2IMG, IMG2IMG, OPTIONS = "/sdapi/v1/txt2img", "/sdapi/v1/img2img", "/sdapi/v1/options"
PICTURE = base64_picture()


async def made(client: httpx2.AsyncClient, body: dict[str, Any], route: str = TXT2IMG) -> dict[str, Any]:
    """The response body, after the checks that all clients make: pictures without a prefix, and `info` as text."""
    response = await client.post(route, content=json.dumps(body))  # without a Content-Type, as Dify
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    for image in content["images"]:
        assert Image.open(io.BytesIO(base64.b64decode(image))).info["parameters"]
    assert len(json.loads(content["info"])["infotexts"]) == len(content["images"])
    return content


async def test_sillytavern(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    """SillyTavern 1.18: src/endpoints/stable-diffusion.js, and `generateAutoImage` of
    public/scripts/extensions/stable-diffusion/index.js."""
    options, models, samplers, schedulers, _, _, _ = await lists(
        client, "options", "sd-models", "samplers", "schedulers", "upscalers", "latent-upscale-modes", "sd-vae"
    )
    assert "forge_preset" not in options
    assert (await client.get("/sdapi/v1/sd-modules")).status_code == 404  # of Forge
    assert (await client.post(OPTIONS, json={"sd_model_checkpoint": models[0]["title"]})).status_code == 200
    progress = (await client.get("/sdapi/v1/progress")).json()
    assert (progress["progress"], progress["state"]["job_count"]) == (0, 0)
    body = await made(
        client,
        {
            "url": "http://localhost:7860",
            "auth": "",
            "prompt": "best quality, a house,",
            "negative_prompt": "lowres, bad anatomy",
            "sampler_name": samplers[0]["name"],
            "scheduler": schedulers[1]["name"],
            "steps": 20,
            "cfg_scale": 7,
            "width": 512,
            "height": 512,
            "restore_faces": False,
            "enable_hr": False,
            "hr_upscaler": "Latent",
            "hr_scale": 1.0,
            "hr_additional_modules": [],
            "denoising_strength": 0.7,
            "hr_second_pass_steps": 0,
            "override_settings": {"CLIP_stop_at_last_layers": 1},
            "override_settings_restore_afterwards": True,
            "clip_skip": 1,
            "save_images": True,
            "send_images": True,
            "do_not_save_grid": False,
            "do_not_save_samples": False,
        },
    )
    assert stream_inputs(triton)[-1]["scheduler"] == "euler"
    assert "512x512" in "".join(body["notes"])


async def test_open_webui(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    """Open WebUI 0.8: backend/open_webui/routers/images.py, engine automatic1111."""
    options, models = await lists(client, "options", "sd-models")
    assert [(each["title"], each["model_name"]) for each in models] == [(MODEL, MODEL)]
    options["sd_model_checkpoint"] = models[0]["title"]  # all options are sent back
    response = await client.post(OPTIONS, json=options, headers={"authorization": ""})
    assert (response.status_code, response.json()) == (200, None)
    plain = {"prompt": "a house", "batch_size": 1, "width": 128, "height": 128, "steps": 50, "negative_prompt": "x"}
    assert (await made(client, plain))["notes"] == []
    # The parameters that an administrator may add; version 0.5 sent the first three as fields.
    added = {"cfg_scale": 7.0, "sampler_name": "Euler", "scheduler": "normal", "eta": None}
    assert (await made(client, plain | added))["notes"] == []
    assert stream_inputs(triton)[-1]["timestep_spacing"] == "linspace"


async def test_auto_photoshop(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    """Auto-Photoshop-StableDiffusion-Plugin 1.4: utility/sdapi/, utility/session.js, and of typescripts/:
    controlnet/entry.ts, session/modes.ts."""
    options, flags, _, _ = await lists(client, "options", "cmd-flags", "sd-models", "samplers")
    assert (options["inpainting_mask_weight"], flags["api"]) == (1.0, True)
    assert (await client.post(OPTIONS, json={"inpainting_mask_weight": 1})).json() is None
    config = (await client.get("/config")).json()
    properties = [each["props"] for each in config["components"]]
    upscalers = next(each for each in properties if each.get("elem_id") == "txt2img_hr_upscaler")
    assert upscalers["choices"] == ["None"]
    assert next(each for each in properties if each["label"] == "Preprocessor")["choices"][0] == "none"
    assert next(each for each in properties if each["elem_id"] == "setting_control_net_max_models_num")["value"] == 1
    settings = (await client.get("/controlnet/settings")).json()
    modules = (await client.get("/controlnet/module_list", params={"alias_name": 1})).json()
    assert (settings["control_net_max_models_num"], set(modules["module_detail"])) == (1, set(modules["module_list"]))
    unit = {
        "enabled": True,
        "input_image": PICTURE,
        "mask": "",
        "module": modules["module_list"][0],
        "model": (await client.get("/controlnet/model_list")).json()["model_list"][0],
        "weight": 1.0,
        "resize_mode": "Scale to Fit (Inner Fit)",
        "lowvram": False,
        "processor_res": 512,
        "threshold_a": 64,
        "threshold_b": 64,
        "guidance_start": 0,
        "guidance_end": 1,
        "guessmode": False,
        "control_mode": "Balanced",
        "pixel_perfect": True,
    }
    units = [unit, {**unit, "enabled": False, "input_image": "", "module": "", "model": ""}]
    body = {
        "selection_info": {"left": 0, "right": 512, "bottom": 512, "top": 0, "width": 512, "height": 512},
        "alwayson_scripts": {
            "ADetailer": {"args": [False, {"ad_model": "face_yolov8n.pt", "ad_use_steps": True}]},
            "controlnet": {"args": units},
        },
        "prompt": "a house",
        "negative_prompt": "",
        "original_prompt": "a house",
        "original_negative_prompt": "",
        "steps": 20,
        "sampler_index": "DPM++ 2M Karras",
        "width": 512,
        "height": 512,
        "denoising_strength": 0.7,
        "batch_size": 1,
        "cfg_scale": 7,
        "seed": "-1",
        "mask_blur": 4,
        "use_sharp_mask": False,
        "use_prompt_shortcut": True,
        "prompt_shortcut_ui_dict": {},
        "uniqueDocumentId": "f3a0",
        "mode": "txt2img",
        "restore_faces": False,
        "tiling": False,
        "controlnet_units": units,
        "subseed": -1,
        "override_settings": {},
        "override_settings_restore_afterwards": True,
    }
    (image,) = (await made(client, body))["images"]  # without a detected map
    assert (stream_inputs(triton)[-1]["image"], stream_inputs(triton)[-1]["scheduler"]) == (PICTURE, "dpmpp_2m_karras")
    read = await client.post("/sdapi/v1/png-info", json={"image": f"data:image/png;base64,{image}"})
    assert read.json()["info"].splitlines()[-1].startswith("Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, ")
    inpainting = {
        "inpaint_full_res": 0,
        "inpaint_full_res_padding": 32,
        "inpainting_fill": 1,
        "mask_expansion": 10,
        "mask": PICTURE,
        "expanded_mask": PICTURE,
        "init_images": [PICTURE],
        "image_cfg_scale": 1.5,
        "mode": "inpaint",
    }
    await made(client, body | inpainting, IMG2IMG)
    assert stream_inputs(triton)[-1]["mask"] == PICTURE


async def test_dify(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    """Dify 0.15: api/core/tools/provider/builtin/stablediffusion/tools/stable_diffusion.py."""
    (models,) = await lists(client, "sd-models")
    model = models[0]["model_name"]
    response = await client.post(OPTIONS, content=json.dumps({"sd_model_checkpoint": model}))
    assert response.status_code == 200
    zeros = ("subseed_strength", "eta", "denoising_strength", "s_min_uncond", "s_churn", "s_tmax", "s_tmin", "s_noise")
    zeros += ("refiner_switch_at", "firstphase_width", "firstphase_height", "hr_second_pass_steps")
    zeros += ("hr_resize_x", "hr_resize_y")
    off = ("restore_faces", "do_not_save_samples", "do_not_save_grid", "disable_extra_networks", "enable_hr")
    body = await made(
        client,
        {
            "prompt": "a house",
            "negative_prompt": "",
            **dict.fromkeys(("seed", "subseed", "seed_resize_from_h", "seed_resize_from_w"), -1),
            "sampler_index": "DPM++ SDE Karras",
            "batch_size": 1,
            "n_iter": 1,
            "steps": 10,
            "cfg_scale": 7,
            "width": 1024,
            "height": 1024,
            **dict.fromkeys(off, False),
            **dict.fromkeys(zeros, 0),
            "override_settings": {"sd_model_checkpoint": model},
            "override_settings_restore_afterwards": True,
            "comments": {},
            "hr_scale": 2,
            "hr_prompt": "",
            "hr_negative_prompt": "",
            "script_args": [],
            "send_images": True,
            "save_images": False,
            "alwayson_scripts": {},
        },
    )
    assert ["1024x1024" in body["notes"][0], "`eta` is 0" in body["notes"][1], len(body["notes"])] == [True, True, 2]
    changed = {
        "init_images": [PICTURE],
        "prompt": "<lora:x:1>,a house",
        "negative_prompt": "",
        "denoising_strength": 0.9,
        "width": 1024,
        "height": 1024,
        "cfg_scale": 7,
        "sampler_name": "Euler a",
        "restore_faces": False,
        "steps": 10,
        "script_args": ["outpainting mk2"],
        "override_settings": {"sd_model_checkpoint": model},
    }
    await made(client, changed, IMG2IMG)
    assert stream_inputs(triton)[-1]["strength"] == pytest.approx(0.9)


async def test_librechat(client: httpx2.AsyncClient) -> None:
    """LibreChat 0.8: api/app/clients/tools/structured/StableDiffusion.js."""
    body = await made(
        client,
        {"prompt": "a house", "negative_prompt": "x", "cfg_scale": 4.5, "steps": 22, "width": 1024, "height": 1024},
    )
    info = json.loads(body["info"])
    assert info["infotexts"][0].split("\n")[-1].startswith("Steps: 22, ")
    assert {"height", "width", "seed"} <= info.keys()


async def test_text_generation_webui(client: httpx2.AsyncClient) -> None:
    """text-generation-webui 2: extensions/sd_api_pictures/script.py."""
    for action in ("unload-checkpoint", "reload-checkpoint"):
        response = await client.post(f"/sdapi/v1/{action}", json="")
        assert (response.status_code, "stays loaded" in response.json()["notes"][0]) == (200, True)
    await made(
        client,
        {
            "prompt": "(Masterpiece:1.1), detailed(a house:1)",
            "seed": -1,
            "sampler_name": "DPM++ 2M",
            "enable_hr": False,
            "hr_scale": "1.0",
            "hr_upscaler": "ESRGAN_4x",
            "denoising_strength": 0.61,
            "steps": 32,
            "cfg_scale": 7,
            "width": 512,
            "height": 512,
            "restore_faces": False,
            "override_settings_restore_afterwards": True,
            "negative_prompt": "(worst quality, low quality:1.3)",
        },
    )


async def test_ai_render_for_blender(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    """AI Render 1: sd_backends/automatic1111_api.py. Its ControlNet unit has no picture: that of img2img is meant."""
    body = {
        "prompt": "a house",
        "negative_prompt": "ugly",
        "width": 512,
        "height": 512,
        "image_similarity": 0.4,
        "seed": 4,
        "cfg_scale": 7.0,
        "steps": 30,
        "sampler": "DPM++ 2M Karras",
        "denoising_strength": 0.6,
        "sampler_index": "DPM++ 2M Karras",
        "init_images": [f"data:image/png;base64,{PICTURE}"],
        "alwayson_scripts": {"controlnet": {"args": [{"module": "none", "model": MODEL}]}},
    }
    await made(client, body, IMG2IMG)
    sent = stream_inputs(triton)[-1]
    assert (sent["image"], sent["init_image"], sent["scheduler"]) == (PICTURE, PICTURE, "dpmpp_2m_karras")
