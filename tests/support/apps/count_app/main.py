# SPDX-License-Identifier: Apache-2.0
"""A frontend for the `count` model and its stream model, which counts until it is cancelled."""

from typing import Any

from pydantic import BaseModel, Json

from fastapi_triton import Settings, TritonFrontend

app = TritonFrontend(title="count", settings=Settings(max_in_flight=50))


class CountRequest(BaseModel):
    text: str
    num_steps: int | None = None
    size: int | None = None


class CountResponse(BaseModel):
    text: str
    info: Json[dict[str, Any]]


app.infer("/count", model="count", stream_model="count_stream", request=CountRequest, response=CountResponse)
