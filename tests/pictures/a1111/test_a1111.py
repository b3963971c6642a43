# SPDX-License-Identifier: Apache-2.0
"""`/sdapi/v1`: A1111's fields, rejected values, and lists."""

import base64
import io
import json
from typing import Any

import httpx2
import pytest
from PIL import Image

from fastapi_triton.core.errors import FieldProblem, InvalidRequestError
from fastapi_triton.testing import FakeTriton
from support.scribble_app import base64_picture
from support.scripted_stream_model import ScriptedStreamModel, stream_inputs

TXT2IMG, PROGRESS, INTERRUPT = "/sdapi/v1/txt2img", "/sdapi/v1/progress", "/sdapi/v1/interrupt"


def unit(**fields: Any) -> dict[str, Any]:
    return {"controlnet": {"args": [{"image": base64_picture(), **fields}]}}


async def made(client: httpx2.AsyncClient, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The response body, and its `info`."""
    response = await client.post(TXT2IMG, json={"prompt": "a red house", **fields})
    assert response.status_code == 200, response.text
    return response.json(), json.loads(response.json()["info"])


# ---- fields


async def test_the_fields_and_the_unit_are_translated_to_the_models_inputs(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    body, info = await made(
        client,
        negative_prompt="blurry",
        steps="9",  # a string, as in A1111
        cfg_scale=2.5,
        seed=4,
        width=128,
        height=128,
        sampler_name="Euler a",
        alwayson_scripts=unit(weight=0.5, guidance_start=0.25, guidance_end=0.75, module="invert"),
    )
    assert stream_inputs(triton) == [
        {
            "prompt": "a red house",
            "image": base64_picture(),
            "conditioning_scale": 0.5,
            "control_guidance_start": 0.25,
            "control_guidance_end": 0.75,
            "invert": "yes",
            "negative_prompt": "blurry",
            "prompt_syntax": "a1111",
            "num_inference_steps": 9,
            "guidance_scale": 2.5,
            "seed": 4,
            "width": 128,
            "height": 128,
            "scheduler": "euler_ancestral",
            "output_format": "png",
            "preview_every": 1,
        }
    ]
    assert [Image.open(io.BytesIO(base64.b64decode(each))).format for each in body["images"]] == ["PNG"]
    assert body["parameters"]["steps"] == 9
    assert (info["seed"], info["all_seeds"], info["sampler_name"], info["notes"]) == (4, [4], "Euler a", [])
    assert info["infotexts"][0].startswith("a red house\nNegative prompt: blurry\nSteps: ")


@pytest.mark.parametrize(
    "scripts",
    [
        {"ControlNet": {"args": [{"input_image": base64_picture()}]}},
        {"controlnet": {"args": [{"image": {"image": base64_picture(), "mask": None}}]}},
        {"controlnet": {"args": [{"image": f"data:image/png;base64,{base64_picture()}"}, {"enabled": False}]}},
        {"controlnet": {"args": [{"image": base64_picture(), "model": "control_v11p_sd15_scribble [d4ba51ff]"}]}},
        {"ADetailer": {"args": [False]}, "controlnet": {"args": [{"image": base64_picture(), "module": None}]}},
    ],
)
async def test_all_notations_of_a_unit_with_a_scribble_are_accepted(
    client: httpx2.AsyncClient, triton: FakeTriton, scripts: dict[str, Any]
) -> None:
    await made(client, alwayson_scripts=scripts)
    assert (stream_inputs(triton)[0]["image"], stream_inputs(triton)[0]["invert"]) == (base64_picture(), "auto")


@pytest.mark.parametrize("scripts", [None, {}, {"controlnet": {"args": []}}, unit(enabled=False)])
async def test_without_a_unit_the_model_gets_only_the_prompt(
    client: httpx2.AsyncClient, triton: FakeTriton, scripts: dict[str, Any] | None
) -> None:
    await made(client, alwayson_scripts=scripts)
    assert "image" not in stream_inputs(triton)[0]


@pytest.mark.parametrize(
    ("sampler", "schedule", "scheduler", "spacing"),
    [
        ("Euler", None, "euler", None),
        ("Euler", "Karras", "euler_karras", None),
        ("k_euler_a", "Automatic", "euler_ancestral", None),
        ("DPM++ 2M", "", "dpmpp_2m_karras", None),
        ("DPM++ 2M", "karras", "dpmpp_2m_karras", None),
        ("DPM++ 2M", "Simple", "dpmpp_2m", "trailing"),
        ("DPM++ 2M Karras", None, "dpmpp_2m_karras", None),
        ("DPM++ 2M SDE", "Automatic", "dpmpp_2m_sde_exponential", None),
        ("DPM++ 2M SDE", "Karras", "dpmpp_2m_sde_karras", None),
        ("DPM++ SDE Karras", "Normal", "dpmpp_sde", "linspace"),
        ("Heun", "DDIM", "heun", "leading"),
        ("UniPC", "SGM Uniform", "unipc", "trailing"),
        ("LCM", None, "lcm", None),
        ("TCD", None, "tcd", None),
        ("dpmpp_2m", None, "dpmpp_2m", None),
        ("Euler SGM Uniform", None, "euler", "trailing"),
        ("k_euler Normal", "Karras", "euler_karras", None),
    ],
)
async def test_a_sampler_and_a_schedule_become_a_scheduler_and_a_spacing(
    client: httpx2.AsyncClient,
    triton: FakeTriton,
    sampler: str | None,
    schedule: str | None,
    scheduler: str,
    spacing: str | None,
) -> None:
    _, info = await made(client, sampler_name=sampler, scheduler=schedule)
    sent = stream_inputs(triton)[0]
    assert (sent["scheduler"], sent.get("timestep_spacing"), info["notes"]) == (scheduler, spacing, [])


@pytest.mark.parametrize(
    ("sampler", "schedule", "scheduler", "words"),
    [
        ("DPM++ 3M SDE", None, "dpmpp_2m_sde_exponential", "most similar one, DPM++ 2M SDE,"),
        ("DPM++ 3M SDE Karras", None, "dpmpp_2m_sde_karras", "most similar one, DPM++ 2M SDE,"),
        ("DPM++ 2M SDE Heun Karras", None, "dpmpp_2m_sde_karras", "most similar one, DPM++ 2M SDE,"),
        ("DPM++ 3M SDE Exponential", None, "dpmpp_2m_sde_exponential", "most similar one, DPM++ 2M SDE,"),
        ("DPM++ 2M SDE Heun Exponential", None, "dpmpp_2m_sde_exponential", "most similar one, DPM++ 2M SDE,"),
        ("LMS Karras", None, "euler_karras", "most similar one, Euler,"),
        ("Euler a Karras", None, "euler_ancestral", "'Karras' is not supported with Euler a"),
        ("PLMS", None, "ddim", "most similar one, DDIM,"),
        ("Euler a", "Karras", "euler_ancestral", "'Karras' is not supported with Euler a"),
        ("LCM", "SGM Uniform", "lcm", "'SGM Uniform' is not supported with LCM"),
        ("Euler", "Beta", "euler", "'Beta' is not supported with Euler"),
        ("Euler", "karas", "euler", "'karas' is not supported with Euler (did you mean Karras?)"),
        (None, "Karras", None, "'Karras' needs a sampler_name"),
    ],
)
async def test_a_note_names_the_sampler_or_schedule_that_is_replaced(
    client: httpx2.AsyncClient,
    triton: FakeTriton,
    sampler: str | None,
    schedule: str | None,
    scheduler: str | None,
    words: str,
) -> None:
    _, info = await made(client, sampler_name=sampler, scheduler=schedule)
    assert stream_inputs(triton)[0].get("scheduler") == scheduler
    assert "timestep_spacing" not in stream_inputs(triton)[0]
    (note,) = info["notes"]
    assert words in note


async def test_eta_is_for_the_samplers_that_have_it(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    _, info = await made(client, sampler_name="DDIM", eta=0.5)
    assert (stream_inputs(triton)[0]["eta"], info["notes"]) == (0.5, [])
    for value, notes in ((1, []), (0.5, ["`eta` is 0.5, and was ignored: only DDIM and TCD have it."])):
        _, info = await made(client, sampler_name="Euler a", eta=value)
        assert ("eta" in stream_inputs(triton)[-1], info["notes"]) == (False, notes)


async def test_notes_name_the_differences_from_the_request(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    _, info = await made(
        client,
        width=1024,
        scheduler="exponential",
        sampler_name="Euler",
        styles=["a style"],
        restore_faces=True,
        override_settings={"CLIP_stop_at_last_layers": 3, "sd_model_checkpoint": ""},
        alwayson_scripts=unit(control_mode="My prompt is more important"),
    )
    assert (stream_inputs(triton)[0]["width"], stream_inputs(triton)[0]["height"]) == (128, 128)
    words = ("exponential", "CLIP_stop_at_last_layers", "styles", "restore_faces", "1024x1024", "control_mode")
    assert all(any(word in note for note in info["notes"]) for word in words)


async def test_several_pictures_have_successive_seeds_and_a_limit(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    body, info = await made(client, n_iter=2, seed=7, send_images=False)
    assert (info["all_seeds"], len(info["infotexts"]), body["images"]) == ([7, 8], 2, [])
    response = await client.post(TXT2IMG, json={"prompt": "a", "n_iter": 2, "batch_size": 2})
    assert (response.status_code, response.json()["code"]) == (422, "out_of_range")


# ---- rejected values


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"prompt": ""}, "too_short", "at least 1"),
        ({"enable_hr": True}, "unsupported_parameter", "second pass"),
        ({"tiling": True}, "unsupported_parameter", "Tiling"),
        ({"script_name": "x/y/z plot"}, "unsupported_parameter", "scripts"),
        ({"sampler_name": "nope"}, "unknown_scheduler", "Euler, Euler a"),
        ({"cfg_scale": 60}, "out_of_range", "`cfg_scale`"),
        ({"steps": "many"}, "wrong_type", "`steps`"),
        ({"override_settings": {"sd_model_checkpoint": "dreamshaper"}}, "unsupported_parameter", "dreamshaper"),
        ({"alwayson_scripts": {"reactor": {"args": ["x"]}}}, "unsupported_parameter", "reactor"),
        ({"alwayson_scripts": unit(image="aGVsbG8=")}, "not_an_image", "PNG"),
        ({"alwayson_scripts": unit(image=None)}, "unsupported_parameter", "no image"),
        ({"alwayson_scripts": unit(mask=base64_picture())}, "unsupported_parameter", "mask"),
        ({"alwayson_scripts": unit(module="canny")}, "unsupported_parameter", "none, invert"),
        ({"alwayson_scripts": unit(model="depth [1]")}, "unsupported_parameter", "depth"),
        ({"alwayson_scripts": {"controlnet": {"args": [True, "none"]}}}, "unsupported_parameter", "object"),
        (
            {"alwayson_scripts": {"controlnet": {"args": unit()["controlnet"]["args"] * 2}}},
            "unsupported_parameter",
            "2",
        ),
    ],
)
async def test_unsupported_values_are_rejected_with_a_reason(
    client: httpx2.AsyncClient, triton: FakeTriton, fields: dict[str, Any], code: str, words: str
) -> None:
    response = await client.post(TXT2IMG, json={"prompt": "a red house", **fields})
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert words.lower() in response.json()["detail"].lower()
    assert not stream_inputs(triton)


async def test_errors_of_the_model_have_a1111s_field_names(
    client: httpx2.AsyncClient, stream_model: ScriptedStreamModel
) -> None:
    detail = "num_inference_steps must be at most 50"
    stream_model.fails_at_once = InvalidRequestError(
        detail, problems=[FieldProblem("#/num_inference_steps", "out_of_range", detail)]
    )
    response = await client.post(TXT2IMG, json={"prompt": "a red house"})
    assert (response.status_code, response.json()["detail"]) == (422, "steps must be at most 50")
    assert response.json()["errors"][0]["pointer"] == "#/steps"


async def test_only_the_checkpoint_can_be_set_and_other_options_are_noted(client: httpx2.AsyncClient) -> None:
    options = (await client.get("/sdapi/v1/options")).json()
    assert (await client.post("/sdapi/v1/options", json=options)).json() is None
    response = await client.post("/sdapi/v1/options", json={**options, "sd_model_checkpoint": "other"})
    assert (response.status_code, response.json()["code"]) == (422, "unsupported_parameter")
    for change in ({"samples_format": "jpg"}, {"unheard_of": 1}, {"CLIP_stop_at_last_layers": 2}):
        response = await client.post("/sdapi/v1/options", json={**options, **change})
        (note,) = response.json()["notes"]
        assert (response.status_code, next(iter(change)) in note) == (200, True)
    for nothing in ({"sd_hypernetwork": "None"}, {"tiling": "false"}, {"outdir_samples": ""}, {"sd_vae": "Automatic"}):
        assert (await client.post("/sdapi/v1/options", json=nothing)).json() is None
    many = (await client.post("/sdapi/v1/options", json={f"option_{index}": 1 for index in range(100)})).json()
    assert (len(many["notes"]), many["notes"][-1]) == (21, "80 more options were ignored.")
    assert (await client.post("/sdapi/v1/options", content=b"{")).status_code == 400
    assert (await client.post("/sdapi/v1/options", content=b"[]")).status_code == 422
    half_a_character = b'{"sd_\\ud800": 1}'  # half a surrogate pair: a response in UTF-8 cannot repeat it
    assert (await client.post("/sdapi/v1/options", content=half_a_character)).status_code == 400


# ---- lists


async def test_lists_that_do_not_depend_on_the_model_need_no_triton(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    triton.models.clear()
    for name in ("scripts", "schedulers", "cmd-flags", "memory", "upscalers"):
        assert (await client.get(f"/sdapi/v1/{name}")).status_code == 200
    assert (await client.get("/sdapi/v1/options")).status_code == 503


async def test_discovery_routes_set_a_session_cookie(socket_client: httpx2.AsyncClient) -> None:
    response = await socket_client.get("/sdapi/v1/scripts")
    assert {"httponly", "samesite=lax", "path=/sdapi"} <= {
        part.strip().lower() for part in response.headers["set-cookie"].split(";")
    }
    assert "set-cookie" not in (await socket_client.get("/sdapi/v1/options")).headers  # the client has one now
