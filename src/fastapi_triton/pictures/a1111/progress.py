# SPDX-License-Identifier: Apache-2.0
"""The response of `/sdapi/v1/progress`."""

import time
from typing import Any

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
        done = task.progress
        state["sampling_step"], state["sampling_steps"] = task.steps.get(task.current, (0, 0))
        body |= {"progress": done, "eta_relative": (time.time() - task.started) * (1 - done) / done if done else 0.0}
        if (position := task.position) is not None:
            body["eta_relative"] = position.estimated_total_s or position.estimated_wait_s or 0.0
            body["textinfo"] = f"Waiting in the queue, at position {position.position}"
        if with_image and task.current in task.previews:
            body["current_image"] = await previews.as_picture(task.previews[task.current], output_format="png")
    return body | {"current_task": task.id if task else None}
