# SPDX-License-Identifier: Apache-2.0
"""A frontend for a model that only waits, with and without a stream model that stops when its client disconnects."""

import asyncio
import gc
import threading
from typing import Any

from pydantic import BaseModel

from fastapi_triton import TritonFrontend

app = TritonFrontend(title="wait")


class WaitRequest(BaseModel):
    seconds: float


class WaitResponse(BaseModel):
    waited: float


app.infer("/wait", model="wait", request=WaitRequest, response=WaitResponse)
app.infer("/wait/events", model="wait", stream_model="wait_stream", request=WaitRequest, response=WaitResponse)


@app.get("/state")
async def state() -> dict[str, Any]:
    """Counts that must not grow."""
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "in_flight": app.services.admission.in_flight,
        "waiting": app.services.admission.waiting,
    }
