# SPDX-License-Identifier: Apache-2.0
"""The CPU of a request to an image classifier, by the form in which the client sends the photo.

A photo of 1920 x 1080 as a JPEG file, in a form or as base64, is decoded, resized and normalized by the frontend. As an
array ([3, 224, 224], FP32) it comes as nested lists, a `.npy` file or raw bytes, which the client has made before. The
app is called without sockets, in front of a fake Triton.

`python -m benchmarks.frontend.image_tensors`
"""

import asyncio
import base64
import io
import json
import sys
import time
from collections.abc import Mapping

import numpy as np
from PIL import Image
from starlette.types import Message

from benchmarks.common.measurement_lock import measurement
from benchmarks.common.ratio import Ratio
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor

ROUNDS, REQUESTS = 9, 20
SIZE = (1920, 1080)
DIMS = (3, 224, 224)
BOUNDARY = b"--------boundary"
LISTS = "nested lists"

Request = tuple[bytes, bytes]
"""A body, and its media type."""


def photo() -> bytes:
    """A JPEG file about as large as a camera's photo of this size: smooth noise."""
    noise = np.random.default_rng(1).integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def requests(data: bytes) -> Mapping[str, Request]:
    """The same photo in each form."""
    resized = Image.open(io.BytesIO(data)).resize(DIMS[:0:-1], Image.Resampling.BILINEAR)
    array = (np.asarray(resized, np.float32) / 255).transpose(2, 0, 1)
    npy = io.BytesIO()
    np.save(npy, np.ascontiguousarray(array))
    in_json = {
        "JPEG, base64": base64.b64encode(data).decode(),
        LISTS: array.tolist(),
        "`npy`": {"npy": base64.b64encode(npy.getvalue()).decode()},
        "raw, base64": {"base64": base64.b64encode(array.tobytes()).decode()},
    }
    head = b'--%b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' % BOUNDARY
    form = head + data + b"\r\n--%b--\r\n" % BOUNDARY
    bodies = {name: (json.dumps({"image": value}).encode(), b"application/json") for name, value in in_json.items()}
    return {"JPEG, a form": (form, b"multipart/form-data; boundary=" + BOUNDARY), **bodies}


async def classify(_: Tensors) -> dict[str, Tensor]:
    return {"scores": Tensor(BY_WIRE["FP32"], np.zeros(5, np.float32))}


async def send(app: TritonFrontend, request: Request) -> None:
    body, media_type = request
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def keep(message: Message) -> None:
        messages.append(message)

    headers = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    path = "/models/classifier/infer"
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    where = {"path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "state": {}}
    await app(
        {**scope, **where, "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}, receive, keep
    )
    if messages[0]["status"] != 200:
        raise RuntimeError(messages)


async def cpu_ms(app: TritonFrontend, request: Request) -> float:
    """The CPU of one request in all threads."""
    started = time.process_time()
    for _ in range(REQUESTS):
        await send(app, request)
    return (time.process_time() - started) / REQUESTS * 1e3


async def main() -> None:
    triton = FakeTriton()
    image, scores = TensorConfig("image", BY_WIRE["FP32"], DIMS), TensorConfig("scores", BY_WIRE["FP32"], (5,))
    triton.add(ModelConfig("classifier", 0, (image,), (scores,)), classify)
    app = TritonFrontend(triton=triton, settings=Settings(generate=True, watch_interval_s=3600))
    by_form = requests(photo())
    rounds: list[dict[str, float]] = []
    async with app.router.lifespan_context(app):
        await app.registry.poll()
        for _ in range(ROUNDS + 1):
            rounds.append({name: await cpu_ms(app, request) for name, request in by_form.items()})
            triton.requests.clear()
    rounds = rounds[1:]  # the first one warms up
    sys.stdout.write("| sent as | body | CPU of a request, ms | relative to lists |\n| --- | --- | --- | --- |\n")
    for name, (body, _) in by_form.items():
        times, ratios = (
            Ratio.of([each[name] for each in rounds]),
            Ratio.of([each[name] / each[LISTS] for each in rounds]),
        )
        sys.stdout.write(f"| {name} | {len(body) / 1024:,.0f} KB | {times} | {ratios} |\n")


if __name__ == "__main__":
    with measurement():
        asyncio.run(main())
