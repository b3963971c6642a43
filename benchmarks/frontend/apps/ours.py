# SPDX-License-Identifier: Apache-2.0
"""The scribble endpoint of `main.py`, with all of its checks, in front of the echo model."""

from pydantic import BaseModel

from fastapi_triton import Base64Image, TritonFrontend
from main import ScribbleRequest


class EchoResponse(BaseModel):
    generated_image: Base64Image


app = TritonFrontend(title="scribble echo")
app.infer("/scribble", model="scribble_echo", request=ScribbleRequest, response=EchoResponse)
