# SPDX-License-Identifier: Apache-2.0
"""`/sdapi/v1`: what becomes of A1111's fields, whose picture progress and interrupt reach, what is refused."""

import asyncio
import base64
import io
import json
from typing import Any

import httpx2
import pytest
from PIL import Image

from fastapi_triton import TritonFrontend
from fastapi_triton.core.errors import FieldProblem, InvalidRequestError
from fastapi_triton.pictures.a1111 import routes
from fastapi_triton.pictures.a1111.tasks import COOKIE, TaskOwner
from fastapi_triton.testing import FakeTriton
from support.scribble_app import base64_picture
from support.scripted_stream_model import ScriptedStreamModel, asked

TXT2IMG, PROGRESS, INTERRUPT = "/sdapi/v1/txt2img", "/sdapi/v1/progress", "/sdapi/v1/interrupt"


def unit(**fields: Any) -> dict[str, Any]:
    return {"controlnet": {"args": [{"image": base64_picture(), **fields}]}}


async def made(client: httpx2.AsyncClient, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer, and the `info` in it."""
    answer = await client.post(TXT2IMG, json={"prompt": "a red house", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json(), json.loads(answer.json()["info"])


# ---- what becomes of the fields


async def test_a_unit_brings_the_sketch_and_fields_become_the_models(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    told, info = await made(
        client,
        negative_prompt="blurry",
        steps="9",  # as strings too: A1111 does not mind
        cfg_scale=2.5,
        seed=4,
        width=128,
        height=128,
        sampler_name="Euler a",
        alwayson_scripts=unit(weight=0.5, guidance_start=0.25, guidance_end=0.75, module="invert"),
    )
    assert asked(triton) == [
        {
            "prompt": "a red house",
            "image": base64_picture(),
            "conditioning_scale": 0.5,
            "control_guidance_start": 0.25,
            "control_guidance_end": 0.75,
            "invert": "yes",
            "negative_prompt": "blurry",
            "num_inference_steps": 9,
            "guidance_scale": 2.5,
            "seed": 4,
            "width": 128,
            "height": 128,
            "scheduler": "euler_ancestral",
            "output_format": "png",
            "preview_every": 2,
        }
    ]
    assert [Image.open(io.BytesIO(base64.b64decode(each))).format for each in told["images"]] == ["PNG"]
    assert told["parameters"]["steps"] == 9
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
async def test_scripts_name_the_sketch_in_many_ways(
    client: httpx2.AsyncClient, triton: FakeTriton, scripts: dict[str, Any]
) -> None:
    await made(client, alwayson_scripts=scripts)
    assert (asked(triton)[0]["image"], asked(triton)[0]["invert"]) == (base64_picture(), "auto")


@pytest.mark.parametrize("scripts", [None, {}, {"controlnet": {"args": []}}, unit(enabled=False)])
async def test_without_a_unit_the_prompt_decides_alone(
    client: httpx2.AsyncClient, triton: FakeTriton, scripts: dict[str, Any] | None
) -> None:
    await made(client, alwayson_scripts=scripts)
    assert "image" not in asked(triton)[0]


@pytest.mark.parametrize(
    ("sampler", "scheduler", "is_noted"),
    [
        ("Euler", "euler", False),
        ("k_euler_a", "euler_ancestral", False),
        ("DPM++ 2M", "dpmpp_2m_karras", False),
        ("DPM++ 2M Karras", "dpmpp_2m_karras", False),
        ("LCM", "lcm", False),
        ("DPM++ SDE Karras", "euler_ancestral", True),
        ("UniPC", "dpmpp_2m_karras", True),
        ("DDIM", "euler", True),
    ],
)
async def test_a_sampler_becomes_the_nearest_scheduler(
    client: httpx2.AsyncClient, triton: FakeTriton, sampler: str, scheduler: str, is_noted: bool
) -> None:
    _, info = await made(client, sampler_name=sampler)
    assert asked(triton)[0]["scheduler"] == scheduler
    assert len(info["notes"]) == is_noted


async def test_what_was_changed_is_said(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    _, info = await made(
        client,
        width=1024,
        scheduler="exponential",
        sampler_name="Euler",
        styles=["a style"],
        restore_faces=True,
        override_settings={"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": ""},
        alwayson_scripts=unit(control_mode="My prompt is more important"),
    )
    assert (asked(triton)[0]["width"], asked(triton)[0]["height"]) == (128, 128)
    words = ("exponential", "CLIP_stop", "styles", "restore_faces", "1024x1024", "control_mode")
    assert all(any(word in note for note in info["notes"]) for word in words)


async def test_several_pictures_are_bounded_and_have_the_seeds_that_follow(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    told, info = await made(client, n_iter=2, seed=7, send_images=False)
    assert (info["all_seeds"], len(info["infotexts"]), told["images"]) == ([7, 8], 2, [])
    answer = await client.post(TXT2IMG, json={"prompt": "a", "n_iter": 2, "batch_size": 2})
    assert (answer.status_code, answer.json()["code"]) == (422, "out_of_range")


# ---- what is refused


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
async def test_what_is_not_done_here_is_refused_in_words(
    client: httpx2.AsyncClient, triton: FakeTriton, fields: dict[str, Any], code: str, words: str
) -> None:
    answer = await client.post(TXT2IMG, json={"prompt": "a red house", **fields})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert words.lower() in answer.json()["detail"].lower()
    assert not asked(triton)


async def test_what_the_model_refuses_is_told_in_a1111s_names(
    client: httpx2.AsyncClient, twin: ScriptedStreamModel
) -> None:
    detail = "num_inference_steps must be at most 50"
    twin.fails_at_once = InvalidRequestError(
        detail, problems=[FieldProblem("#/num_inference_steps", "out_of_range", detail)]
    )
    answer = await client.post(TXT2IMG, json={"prompt": "a red house"})
    assert (answer.status_code, answer.json()["detail"]) == (422, "steps must be at most 50")
    assert answer.json()["errors"][0]["pointer"] == "#/steps"


async def test_options_can_be_set_to_what_they_are(client: httpx2.AsyncClient) -> None:
    options = (await client.get("/sdapi/v1/options")).json()
    assert (await client.post("/sdapi/v1/options", json=options)).json() is None
    for change in ({"sd_model_checkpoint": "other"}, {"samples_format": "jpg"}, {"unheard_of": 1}):
        answer = await client.post("/sdapi/v1/options", json={**options, **change})
        assert (answer.status_code, answer.json()["code"]) == (422, "unsupported_parameter")
    assert (await client.post("/sdapi/v1/options", content=b"{")).status_code == 400
    half_a_character = b'{"sd_\\ud800": 1}'  # which no answer in UTF-8 can repeat
    assert (await client.post("/sdapi/v1/options", content=half_a_character)).status_code == 400


# ---- whose picture it is


def test_a_caller_owns_what_its_session_asked_for_and_what_its_address_did_without_one() -> None:
    mine = TaskOwner("", "cookie", "10.0.0.1")
    assert mine.owns(mine)
    assert mine.owns(TaskOwner("", None, "10.0.0.1"))  # the same program may keep cookies for some of its requests only
    assert not mine.owns(TaskOwner("", None, "10.0.0.2"))
    assert not mine.owns(TaskOwner("", "another", "10.0.0.1"))
    assert not mine.owns(TaskOwner("Basic x", "cookie", "10.0.0.1"))
    assert not TaskOwner("", None, "10.0.0.1").owns(mine)


@pytest.fixture
async def waiting(
    caller: httpx2.AsyncClient, twin: ScriptedStreamModel, monkeypatch: pytest.MonkeyPatch
) -> asyncio.Task[httpx2.Response]:
    """A picture of a session's, held at its second step."""
    caller.cookies.set(COOKIE, "mine")
    twin.holds_before = 2
    twin.go_on.clear()
    monkeypatch.setattr(routes, "DEFAULT_PREVIEW_EVERY", 1)
    body = {"prompt": "a red house", "force_task_id": "task-1", "width": 128, "height": 128}
    asking = asyncio.create_task(caller.post(TXT2IMG, json=body))
    while (await caller.get(PROGRESS)).json()["progress"] == 0:
        pass
    return asking


def stranger(caller: httpx2.AsyncClient, **cookies: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=caller.base_url, cookies=cookies, timeout=60)


async def test_progress_is_the_callers_own(
    caller: httpx2.AsyncClient, waiting: asyncio.Task[httpx2.Response], twin: ScriptedStreamModel
) -> None:
    told = (await caller.get(PROGRESS)).json()
    assert (told["progress"], told["state"]["sampling_step"], told["state"]["sampling_steps"]) == (0.5, 1, 2)
    assert (told["state"]["job_count"], told["current_task"]) == (1, "task-1")
    assert Image.open(io.BytesIO(base64.b64decode(told["current_image"]))).format == "PNG"
    assert (await caller.get(PROGRESS, params={"skip_current_image": True})).json()["current_image"] is None
    async with stranger(caller) as other, stranger(caller, **{COOKIE: "theirs"}) as third:
        for each in (other, third):
            told = (await each.get(PROGRESS)).json()
            assert (told["progress"], told["state"]["job_count"], told["current_task"]) == (0, 0, None)
        # who knows the task's name was told it by whoever chose it
        assert (await other.get(PROGRESS, params={"id_task": "task-1"})).json()["progress"] == 0.5
    twin.go_on.set()
    assert (await waiting).status_code == 200
    assert (await caller.get(PROGRESS)).json()["state"]["job_count"] == 0


async def test_interrupt_reaches_the_callers_own_and_shows_how_far_it_came(
    caller: httpx2.AsyncClient,
    waiting: asyncio.Task[httpx2.Response],
    app: TritonFrontend,
    triton: FakeTriton,
) -> None:
    async with stranger(caller) as other:
        assert (await other.post(INTERRUPT)).json() == {}
        assert (await other.post(INTERRUPT, params={"id_task": "task-2"})).json() == {}
    assert app.services.admission.in_flight == 1
    assert (await caller.post(INTERRUPT)).json() == {}
    answer = await waiting
    assert answer.status_code == 200
    assert triton.streams[-1].is_closed_early
    assert app.services.admission.in_flight == 0
    (shown,) = answer.json()["images"]
    assert Image.open(io.BytesIO(base64.b64decode(shown))).size == (128, 128)
    assert "interrupted at step 1 of 2" in json.loads(answer.json()["info"])["notes"][0]


async def test_a_task_has_a_name_of_its_own(
    caller: httpx2.AsyncClient, waiting: asyncio.Task[httpx2.Response], twin: ScriptedStreamModel
) -> None:
    answer = await caller.post(TXT2IMG, json={"prompt": "a red house", "force_task_id": "task-1"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/force_task_id")
    twin.go_on.set()
    await waiting


async def test_a_caller_who_leaves_stops_the_work(
    caller: httpx2.AsyncClient, waiting: asyncio.Task[httpx2.Response], app: TritonFrontend, triton: FakeTriton
) -> None:
    waiting.cancel()
    await triton.streams[-1].ended.wait()
    assert triton.streams[-1].is_closed_early
    while (await caller.get(PROGRESS)).json()["state"]["job_count"]:
        pass
    assert app.services.admission.in_flight == 0


async def test_programs_that_keep_cookies_get_a_session_from_what_they_ask_first(caller: httpx2.AsyncClient) -> None:
    answer = await caller.get("/sdapi/v1/scripts")
    assert {"httponly", "samesite=lax", "path=/sdapi"} <= {
        part.strip().lower() for part in answer.headers["set-cookie"].split(";")
    }
    assert "set-cookie" not in (await caller.get("/sdapi/v1/options")).headers  # it has one now
