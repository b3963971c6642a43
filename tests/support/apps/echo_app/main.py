# SPDX-License-Identifier: Apache-2.0
"""A frontend for the `echo` model: it starts in two seconds, and fails on request."""

from pydantic import BaseModel

from fastapi_triton import TritonFrontend

app = TritonFrontend(title="echo")


class EchoRequest(BaseModel):
    text: str


class EchoResponse(BaseModel):
    text: str


app.infer("/echo", model="echo", request=EchoRequest, response=EchoResponse)
