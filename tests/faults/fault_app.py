# SPDX-License-Identifier: Apache-2.0
"""An app with the echo and the count model, and a route that reports its resources. The tests copy it as `main.py`."""

from typing import Any

import psutil
from pydantic import BaseModel, Json

from fastapi_triton import Settings, TritonFrontend

app = TritonFrontend(title="faults", settings=Settings(max_in_flight=16, watch_interval_s=0.5))


class EchoRequest(BaseModel):
    text: str


class EchoResponse(BaseModel):
    text: str


class CountRequest(BaseModel):
    text: str
    num_steps: int | None = None
    size: int | None = None


class CountResponse(BaseModel):
    text: str
    info: Json[dict[str, Any]]


app.infer("/echo", model="echo", request=EchoRequest, response=EchoResponse)
app.infer("/count", model="count", stream_model="count_stream", request=CountRequest, response=CountResponse)


@app.get("/inner")
async def inner() -> dict[str, int]:
    process = psutil.Process()
    return {
        "in_flight": app.services.admission.in_flight,
        "num_fds": process.num_fds(),
        "rss": process.memory_info().rss,
        "pid": process.pid,
    }
