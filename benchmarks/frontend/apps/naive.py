# SPDX-License-Identifier: Apache-2.0
"""A typical first handler: tritonclient's synchronous client in an `async def`."""

import os

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

app = FastAPI()
client = InferenceServerClient(os.environ["TRITON_URL"].removeprefix("http://"))


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
    outputs = [InferRequestedOutput("generated_image", binary_data=False)]
    response = client.infer("scribble_echo", inputs, outputs=outputs)
    return {"generated_image": response.as_numpy("generated_image")[0, 0]}
