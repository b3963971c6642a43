# SPDX-License-Identifier: Apache-2.0
"""FastAPI with tritonclient's own asynchronous client, used as its examples use it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient

# By default its client requests gzip, which costs Triton ten times the CPU. The second peer requests identity.
HEADERS = {"Accept-Encoding": "identity"} if os.environ.get("WITHOUT_GZIP") else None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.client = InferenceServerClient(os.environ["TRITON_URL"].removeprefix("http://"))
    yield
    await app.state.client.close()


app = FastAPI(lifespan=lifespan)


class ScribbleRequest(BaseModel):
    prompt: str
    image: str
    conditioning_scale: float = 1.0


@app.post("/scribble")
async def scribble(request: ScribbleRequest) -> dict[str, str]:
    values = (
        ("prompt", "BYTES", np.array([[request.prompt]], dtype=object)),
        ("image", "BYTES", np.array([[request.image]], dtype=object)),
        ("conditioning_scale", "FP32", np.array([[request.conditioning_scale]], dtype=np.float32)),
    )
    inputs = []
    for name, datatype, array in values:
        inputs.append(InferInput(name, list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array)
    outputs = [InferRequestedOutput("generated_image")]
    response = await app.state.client.infer("scribble_echo", inputs, outputs=outputs, headers=HEADERS)
    return {"generated_image": response.as_numpy("generated_image")[0, 0].decode()}
