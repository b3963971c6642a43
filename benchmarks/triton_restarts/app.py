# SPDX-License-Identifier: Apache-2.0
"""The measured frontend: the same pause with and without a stream model."""

from pydantic import BaseModel

from fastapi_triton import TritonFrontend

app = TritonFrontend(title="pause")


class Pause(BaseModel):
    ms: int


app.infer("/pause", model="pause", request=Pause, response=Pause)
app.infer("/pause-stream", model="pause", stream_model="pause_stream", request=Pause, response=Pause)
