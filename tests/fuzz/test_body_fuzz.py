# SPDX-License-Identifier: Apache-2.0
"""Broken bodies for every endpoint: each gets a response in time, and never a 500. `make fuzz` sends 100,000."""

import asyncio
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from starlette.types import Message

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor
from support import mutations
from support.scribble_app import MODEL, PATH, base64_picture
from support.scripted_stream_model import ScriptedStreamModel, app_of, stream_model_config

SEED = int(os.environ.get("FUZZ_SEED", "1"))
LIMIT_S = 10  # for one response: no request may hang
FEW, MANY = 1_000, int(os.environ.get("FUZZ_BODIES", "100000"))
ALL_TYPES = ModelConfig(
    "all_types",
    0,
    tuple(TensorConfig(wire.lower(), each, (-1,), optional=True) for wire, each in BY_WIRE.items()),
    tuple(TensorConfig(wire.lower(), each, (-1,)) for wire, each in BY_WIRE.items()),
)
ROWS = ModelConfig(
    "rows",
    4,
    (TensorConfig("x", BY_WIRE["FP32"], (2, -1)), TensorConfig("s", BY_WIRE["BYTES"], (1,), optional=True)),
    (),
)
PICTURES = ModelConfig(
    "pictures",
    4,
    (TensorConfig("photo", BY_WIRE["FP32"], (3, 8, -1)), TensorConfig("page", BY_WIRE["UINT8"], (-1, -1, 1), True)),
    (TensorConfig("photo", BY_WIRE["FP32"], (3, 8, -1)),),
)
STREAM = ModelConfig("stream", 0, (TensorConfig("x", BY_WIRE["INT32"], (1,)),), (), decoupled=True)
TYPES = (
    "application/json", "application/json; charset=latin-1", "text/plain", "", "application/octet-stream",
    mutations.FORM_TYPE, "multipart/form-data", "multipart/form-data; boundary=", "application/x-www-form-urlencoded",
    "application/problem+json", "\xff", "multipart/form-data; boundary=\xff",
)  # fmt: skip
ACCEPTS = ("*/*", "application/json", "image/png", "text/event-stream", "image/*;q=0.5, text/html", ";;;", "\xff", "")


async def echo(inputs: Tensors) -> dict[str, Tensor]:
    return dict(inputs)


async def twice(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
    yield dict(inputs)
    yield dict(inputs)


# The members of a valid body, for each POST route of the app.
PICTURE = base64_picture()
VALID: dict[str, dict[str, Any]] = {
    PATH: {"prompt": "a house", "image": PICTURE, "conditioning_scale": 0.5, "seed": 1, "output_format": "png"},
    "/models/all_types/infer": {
        **{name.lower(): [1, 2] for name in BY_WIRE if name not in ("BYTES", "BOOL")},
        "bool": [True],
        "bytes": ["a", "b"],
    },
    "/models/rows/infer": {"x": [[1.0, 2.0], [3.0, 4.0]], "s": "text"},
    "/models/rows/versions/1/infer": {"x": [[1.0], [2.0]]},
    "/models/pictures/infer": {"photo": PICTURE, "page": PICTURE},
    "/models/stream/infer": {"x": 1},
    f"/models/{MODEL}/infer": {"prompt": "a house", "image": PICTURE, "conditioning_scale": 1.0},
    "/v1/images/generations": {"prompt": "a house", "n": 1, "size": "128x128", "response_format": "b64_json"},
    "/v1/images/edits": {"prompt": "a house", "image": PICTURE, "stream": False},
    "/sdapi/v1/txt2img": {
        "prompt": "a house",
        "steps": 4,
        "alwayson_scripts": {"controlnet": {"args": [{"image": PICTURE, "weight": 1.0, "enabled": True}]}},
    },
    "/sdapi/v1/img2img": {"prompt": "a house", "init_images": [PICTURE], "mask": PICTURE, "denoising_strength": 0.5},
    "/sdapi/v1/options": {"sd_model_checkpoint": MODEL, "samples_format": "png"},
    "/sdapi/v1/png-info": {"image": PICTURE},
    "/internal/progress": {"id_task": "task-1", "id_live_preview": -1, "live_preview": True},
    "/controlnet/detect": {"controlnet_module": "none", "controlnet_input_images": [PICTURE]},
}
# They read no body.
ACTIONS = (
    "interrogate",
    "interrupt",
    "skip",
    "refresh-checkpoints",
    "refresh-embeddings",
    "refresh-loras",
    "refresh-vae",
)
ACTIONS += ("reload-checkpoint", "unload-checkpoint")


@pytest.fixture
def triton(scribble_config: ModelConfig) -> FakeTriton:
    fake = FakeTriton()
    fake.add(scribble_config, echo)
    fake.add(stream_model_config(scribble_config), respond_stream=ScriptedStreamModel())
    fake.add(ALL_TYPES, echo)
    fake.add(ROWS, echo)
    fake.add(PICTURES, echo)
    fake.add(STREAM, respond_stream=twice)
    return fake


@pytest.fixture
async def app(triton: FakeTriton) -> AsyncIterator[TritonFrontend]:
    frontend = app_of(triton, Settings(generate=True, watch_interval_s=3600, max_body_bytes=100_000))
    async with frontend.router.lifespan_context(frontend):
        await frontend.registry.poll()
        yield frontend


@dataclass(slots=True)
class Exchange:
    """One request and its response."""

    path: str
    content_type: str
    accept: str
    body: bytes
    status: int = 0
    response: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)

    async def run(self, app: TritonFrontend, chance: random.Random) -> None:
        at = chance.randrange(len(self.body) + 1)
        pieces = [self.body[:at], self.body[at:]] if chance.random() < 0.3 else [self.body]
        disconnected = asyncio.Event()

        async def receive() -> Message:
            if not pieces:
                await disconnected.wait()
            body = pieces.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(pieces)}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status, self.headers = message["status"], dict(message["headers"])
            else:
                self.response += message.get("body", b"")

        headers = [
            (b"content-type", self.content_type.encode("latin-1")),
            (b"accept", self.accept.encode("latin-1")),
            (b"content-length", b"%d" % len(self.body)),
        ]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": self.path, "raw_path": self.path.encode(), "root_path": "", "query_string": b"",
            "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {},
        }  # fmt: skip
        async with asyncio.timeout(LIMIT_S):
            await app(scope, receive, send)

    def require_useful_response(self) -> None:
        """Assert that the response is a success, or an error with a detail."""
        assert 200 <= self.status < 500, self
        assert self.status != 405, self  # the body would not be read
        assert b"There is no route" not in self.response, self
        if self.status >= 400:
            problem = orjson.loads(self.response)
            detail = problem["error"]["message"] if self.path.startswith("/v1") else problem["detail"]
            assert detail, self


def broken(chance: random.Random) -> Exchange:
    path = chance.choice(list(VALID))
    accept = chance.choice(ACCEPTS) if chance.random() < 0.3 else "*/*"
    if chance.random() < 0.35:
        body, content_type = mutations.form_body(chance, VALID[path]), mutations.FORM_TYPE
    else:
        body, content_type = mutations.json_body(chance, VALID[path]), "application/json"
    if chance.random() < 0.1:
        content_type = chance.choice(TYPES)
    return Exchange(path, content_type, accept, body)


async def fuzz(app: TritonFrontend, triton: FakeTriton, count: int) -> None:
    statuses: dict[tuple[str, int], int] = {}
    chance = random.Random(SEED)  # noqa: S311
    for number in range(count):
        exchange = broken(chance)
        try:
            await exchange.run(app, chance)
        except Exception as error:  # noqa: BLE001
            pytest.fail(f"number {number} of seed {SEED}: {error!r}: {exchange}")
        exchange.require_useful_response()
        key = exchange.path, exchange.status
        statuses[key] = statuses.get(key, 0) + 1
        triton.requests.clear()
        triton.streams.clear()
    assert app.services.admission.in_flight == 0
    # Each route accepts some of the bodies, so the mutations reach all checks.
    assert {path for path, status in statuses if status < 300} == set(VALID), statuses
    assert {path for path, status in statuses if status in (400, 422)} >= {PATH, "/models/rows/infer"}, statuses


async def test_every_endpoint_that_takes_a_body_is_fuzzed(app: TritonFrontend) -> None:
    paths = {path for path, methods in app.openapi()["paths"].items() if "post" in methods}
    assert paths - {path for path in paths if path.startswith("/models/")} <= {
        *VALID,
        *(f"/sdapi/v1/{name}" for name in ACTIONS),
    }


@pytest.mark.parametrize("path", VALID)
async def test_the_bodies_are_valid_before_they_are_broken(app: TritonFrontend, path: str) -> None:
    exchange = Exchange(path, "application/json", "*/*", orjson.dumps(VALID[path]))
    await exchange.run(app, random.Random(SEED))  # noqa: S311
    assert exchange.status == 200, exchange.response


async def test_each_of_a_thousand_broken_bodies_gets_a_useful_response(app: TritonFrontend, triton: FakeTriton) -> None:
    await fuzz(app, triton, FEW)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
async def test_each_of_a_hundred_thousand_broken_bodies_gets_a_useful_response(
    app: TritonFrontend, triton: FakeTriton
) -> None:
    await fuzz(app, triton, MANY)
