# SPDX-License-Identifier: Apache-2.0
"""The response to finished or interrupted pictures, as A1111's class `Processed` writes it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi_triton.endpoints import responses
from fastapi_triton.pictures import previews
from fastapi_triton.pictures.a1111 import errors, infotext, png_info
from fastapi_triton.pictures.a1111.schemas import PicturesPlan, PicturesRequest
from fastapi_triton.pictures.a1111.tasks import Task
from fastapi_triton.pictures.text_to_image import Capabilities, Size, model_notes

# Not repeated in `parameters`.
_LONG_FIELDS = {"alwayson_scripts", "controlnet_units", "init_images", "mask"}
# The fields whose defaults do not depend on the request.
_DEFAULTS = ("num_inference_steps", "guidance_scale")


async def response_body(request: PicturesRequest, plan: PicturesPlan, task: Task) -> dict[str, Any]:
    """The response body. For interrupted pictures it has the last preview."""
    of_model = model_notes(picture.info for _, picture in sorted(task.pictures.items()))
    notes = [*plan.notes, *map(errors.renamed, of_model)]
    notes += [_interrupted_note(task, index) for index in range(task.count) if index not in task.pictures]
    pictures = await _pictures(plan, task)
    size = next((size for _, size in pictures.values()), _requested_size(plan))
    info = _info(request, plan, task, size)
    images: list[str] = []
    if request.send_images:
        for index, (picture, _) in pictures.items():
            text = info["infotexts"][index]
            images.append(await png_info.with_parameters(picture, text) if plan.has_parameters else picture)
    return {
        "images": images,
        "parameters": request.model_dump(exclude={*_LONG_FIELDS, *(request.model_extra or {})}),
        "info": responses.encode({**info, "notes": notes}).decode(),
        "notes": notes,
    }


async def _pictures(plan: PicturesPlan, task: Task) -> dict[int, tuple[str, Size]]:
    """The pictures in base64 text with their sizes, by number; of unfinished ones the last previews, if there are."""
    found: dict[int, tuple[str, Size]] = {}
    for index, fields in enumerate(plan.batch):
        if index in task.pictures:
            found[index] = (task.pictures[index].base64, task.pictures[index].size)
        elif index in task.previews:
            preview = task.previews[index]
            found[index] = await previews.as_whole_picture(preview, fields, plan.capabilities, output_format="png")
    return found


def _requested_size(plan: PicturesPlan) -> tuple[int | None, int | None]:
    return plan.batch[0].get("width"), plan.batch[0].get("height")


def _interrupted_note(task: Task, index: int) -> str:
    step, num_steps = task.steps.get(index, (0, 0))
    moment = f"at step {step} of {num_steps}" if step else "before its first step"
    return f"Picture {index + 1} was interrupted {moment}. The response has its last preview instead, if there is one."


def _info(
    request: PicturesRequest, plan: PicturesPlan, task: Task, size: tuple[int | None, int | None]
) -> dict[str, Any]:
    """How the pictures were made, in A1111's fields. `info` has the model's own information about each picture."""
    infos = [task.pictures[index].info if index in task.pictures else {} for index in range(task.count)]
    used = next((each for each in infos if each), {})
    negative = request.negative_prompt or ""
    made = [
        infotext.parameters(_with_defaults(fields, plan.capabilities), each or used, plan.scheduler)
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
        "width": size[0],
        "height": size[1],
        "sampler_name": made[0]["Sampler"],
        "cfg_scale": made[0]["CFG scale"],
        "steps": made[0]["Steps"],
        "batch_size": request.batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": used.get("checkpoint"),
        "sd_model_hash": None,
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": used.get("strength"),
        "extra_generation_params": {"Schedule type": made[0]["Schedule type"]},
        "index_of_first_image": 0,
        "infotexts": [infotext.write(request.prompt, negative, each) for each in made],
        "styles": [],
        "job_timestamp": timestamp(task.started),
        "clip_skip": made[0]["Clip skip"] or 1,
        "is_using_inpainting_conditioning": False,
        "info": infos,
    }


def _with_defaults(fields: Mapping[str, Any], capabilities: Capabilities) -> dict[str, Any]:
    """The fields of a request with the model's defaults, which a model without `info` uses, too."""
    defaults = {**capabilities.defaults, **capabilities.presets.get(fields.get("preset") or "", {})}
    used = {name: defaults[name] for name in _DEFAULTS if name in defaults}
    return used | {name: value for name, value in fields.items() if value is not None}


def timestamp(seconds: float) -> str:
    """A time as A1111 writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S")
