# SPDX-License-Identifier: Apache-2.0
"""The endpoint that the benchmark calls over HTTP: as in `main.py`, with a preview after every step."""

from typing import Any

from pydantic import BaseModel, Json

from fastapi_triton import Base64Image, TritonFrontend

PATH = "/picture"
MODEL = "sdxl_scribble_controlnet"


class PictureRequest(BaseModel):
    prompt: str
    image: Base64Image
    conditioning_scale: float = 1.0
    seed: int
    num_inference_steps: int
    preview_every: int = 1


class PictureResponse(BaseModel):
    generated_image: Base64Image
    seed: int
    info: Json[dict[str, Any]]


app = TritonFrontend(title="The benchmark's endpoint")
app.infer(PATH, model=MODEL, stream_model=f"{MODEL}_stream", request=PictureRequest, response=PictureResponse)
