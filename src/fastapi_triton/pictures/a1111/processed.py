# SPDX-License-Identifier: Apache-2.0
"""The response to finished or interrupted pictures, as A1111's class `Processed` writes it."""

from datetime import UTC, datetime
from typing import Any

from fastapi_triton.endpoints import responses
from fastapi_triton.pictures import previews
from fastapi_triton.pictures.a1111 import errors, infotext, png_info
from fastapi_triton.pictures.a1111.schemas import PicturesPlan, PicturesRequest
from fastapi_triton.pictures.a1111.tasks import Task
from fastapi_triton.pictures.text_to_image import model_notes

# Not repeated in `parameters`.
_LONG_FIELDS = {"alwayson_scripts", "controlnet_units", "init_images", "mask"}


async def response_body(request: PicturesRequest, plan: PicturesPlan, task: Task) -> dict[str, Any]:
    """The response body. For interrupted pictures it has the last preview."""
    of_model = model_notes(picture.info for _, picture in sorted(task.pictures.items()))
    notes = [*plan.notes, *map(errors.renamed, of_model)]
    info = _info(request, plan, task)
    images: list[str] = []
    for index, text in enumerate(info["infotexts"]):
        if index not in task.pictures:
            notes.append(_interrupted_note(task, index))
        if request.send_images and (picture := await _picture(plan, task, index)):
            images.append(await png_info.with_parameters(picture, text) if plan.has_parameters else picture)
    return {
        "images": images,
        "parameters": request.model_dump(exclude={*_LONG_FIELDS, *(request.model_extra or {})}),
        "info": responses.encode({**info, "notes": notes}).decode(),
        "notes": notes,
    }


async def _picture(plan: PicturesPlan, task: Task, index: int) -> str | None:
    if index in task.pictures:
        return task.pictures[index].base64
    if index not in task.previews:
        return None
    fields, preview = plan.batch[index], task.previews[index]
    picture, _ = await previews.as_whole_picture(preview, fields, plan.capabilities, output_format="png")
    return picture


def _interrupted_note(task: Task, index: int) -> str:
    step, num_steps = task.steps.get(index, (0, 0))
    moment = f"at step {step} of {num_steps}" if step else "before its first step"
    return f"Picture {index + 1} was interrupted {moment}. The response has its last preview instead, if there is one."


def _info(request: PicturesRequest, plan: PicturesPlan, task: Task) -> dict[str, Any]:
    """How the pictures were made, in A1111's fields. `info` has the model's own information about each picture."""
    infos = [task.pictures[index].info if index in task.pictures else {} for index in range(task.count)]
    used = next((each for each in infos if each), {})
    negative = request.negative_prompt or ""
    made = [
        infotext.parameters(fields, each or used, plan.scheduler)
        for fields, each in zip(plan.batch, infos, strict=True)
    ]
    seeds = [fields.get("seed") for fields in plan.batch]
    return {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * task.count,
        "negative_prompt": negative,
        "all_negative_prompts": [negative] * task.count,
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": -1,
        "all_subseeds": [-1] * task.count,
        "subseed_strength": 0,
        "width": used.get("width"),
        "height": used.get("height"),
        "sampler_name": made[0]["Sampler"],
        "cfg_scale": used.get("guidance_scale"),
        "steps": used.get("num_inference_steps"),
        "batch_size": request.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": used.get("checkpoint"),
        "sd_model_hash": None,
        "denoising_strength": used.get("strength"),
        "extra_generation_params": {"Schedule type": made[0]["Schedule type"]},
        "index_of_first_image": 0,
        "infotexts": [infotext.write(request.prompt, negative, each) for each in made],
        "styles": [],
        "job_timestamp": timestamp(task.started),
        "clip_skip": made[0]["Clip skip"] or 1,
        "info": infos,
    }


def timestamp(seconds: float) -> str:
    """A time as A1111 writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S")
