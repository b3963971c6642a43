# SPDX-License-Identifier: Apache-2.0
"""The responses of `/sdapi/v1/progress` and `/internal/progress`."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from fastapi_triton.pictures import previews
from fastapi_triton.pictures.a1111.processed import timestamp
from fastapi_triton.pictures.a1111.tasks import Task


async def response_body(task: Task | None, *, with_image: bool) -> dict[str, Any]:
    """The progress of a task. As in A1111, it has zeros if nothing runs."""
    state = {
        "skipped": False,
        "interrupted": task is not None and task.is_interrupted,
        "stopping_generation": False,
        "job": task.id if task else "",
        "job_count": task.count if task else 0,
        "job_timestamp": timestamp(task.started) if task else "0",
        "job_no": task.current if task else 0,
        "sampling_step": 0,
        "sampling_steps": 0,
    }
    body = {"progress": 0.0, "eta_relative": 0.0, "state": state, "current_image": None, "textinfo": None}
    if task is not None:
        state["sampling_step"], state["sampling_steps"] = task.steps.get(task.current, (0, 0))
        body |= {"progress": task.progress, "eta_relative": task.eta_s or 0.0, "textinfo": _text(task)}
        if with_image and task.current in task.previews:
            body["current_image"] = await _preview(task)
    return body | {"current_task": task.id if task else None}


class InternalProgressRequest(BaseModel):
    """The body of `/internal/progress`. With the id of the last preview, the response has only a newer one."""

    model_config = ConfigDict(extra="ignore")

    id_task: str | None = None
    id_live_preview: int = -1
    live_preview: bool = True


async def internal_response_body(
    request: InternalProgressRequest, task: Task | None, *, is_finished: bool
) -> dict[str, Any]:
    """The state of one task. As in A1111, `progress` and `eta` are null for tasks that are unknown or finished."""
    is_queued = task is not None and task.position is not None
    body: dict[str, Any] = {
        "active": task is not None and not is_queued,
        "queued": is_queued,
        "completed": is_finished,
        "progress": None,
        "eta": None,
        "live_preview": None,
        "id_live_preview": request.id_live_preview,
        "textinfo": None,
    }
    if task is None:
        return body
    body |= {"progress": task.progress, "eta": task.eta_s, "textinfo": _text(task)}
    if request.live_preview and task.current in task.previews and task.num_previews != request.id_live_preview:
        body["id_live_preview"] = task.num_previews
        body["live_preview"] = f"data:image/png;base64,{await _preview(task)}"
    return body


def _text(task: Task) -> str | None:
    position = task.position
    return None if position is None else f"Waiting in the queue, at position {position.position}"


async def _preview(task: Task) -> str:
    return await previews.as_picture(task.previews[task.current], output_format="png")
