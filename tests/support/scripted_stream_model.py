# SPDX-License-Identifier: Apache-2.0
"""A stream model that the test controls, an app in front of it, and a reader of its events."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np

import main
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_CONFIG, BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor
from support.received_events import ReceivedEvent, events_of
from support.scribble_app import MODEL, PATH, bytes_tensor, paint, picture, text

STREAM_MODEL = f"{MODEL}_stream"
SSE = {"Accept": "text/event-stream"}
Body = Callable[..., dict[str, Any]]


def tensor(name: str, datatype: str) -> TensorConfig:
    return TensorConfig(name, BY_CONFIG[datatype], (1,), optional=True)


def stream_model_config(public: ModelConfig) -> ModelConfig:
    """The config of the stream model: all inputs are optional, and it reports its progress."""
    return ModelConfig(
        name=STREAM_MODEL,
        max_batch_size=0,
        inputs=(
            *(replace(each, optional=True) for each in public.inputs),
            tensor("preview_every", "TYPE_INT32"),
            tensor("describe", "TYPE_BOOL"),
        ),
        outputs=(
            *public.outputs,
            tensor("event", "TYPE_STRING"),
            tensor("step", "TYPE_INT32"),
            tensor("num_steps", "TYPE_INT32"),
            tensor("preview", "TYPE_STRING"),
            tensor("position", "TYPE_INT32"),
            tensor("estimated_wait_s", "TYPE_FP32"),
            tensor("estimated_total_s", "TYPE_FP32"),
        ),
        decoupled=True,
    )


def number(value: int) -> Tensor:
    return Tensor(BY_WIRE["INT32"], np.array([value], np.int32))


def seconds(value: float) -> Tensor:
    return Tensor(BY_WIRE["FP32"], np.array([value], np.float32))


class ScriptedStreamModel:
    """Sends two `progress` events, then the picture. A test can hold it or make it fail in between."""

    def __init__(self) -> None:
        self.has_request = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fails_at_once: FastAPITritonError | None = None
        self.fails_after_a_step: FastAPITritonError | None = None
        self.is_complete = True
        self.num_descriptions = 0
        self.further_description: dict[str, Any] = {}
        self.preview = base64.b64encode(picture("WEBP", (4, 4)))
        self.holds_before = 1  # the step that waits for `go_on`
        self.notes: list[str] = []  # in the picture's info
        self.positions: list[int] = []  # in its own queue, before the first step

    async def __call__(self, inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
        if "describe" in inputs:
            self.num_descriptions += 1
            description = {"sizes": [[128, 128]], "number": self.num_descriptions, **self.further_description}
            yield {"info": bytes_tensor(json.dumps(description).encode())}
            return
        self.has_request.set()
        if self.fails_at_once:
            raise self.fails_at_once
        if not self.positions:
            yield {"event": bytes_tensor(b"queued")}
        for position in self.positions:
            times = {"estimated_wait_s": seconds(2.34 * position), "estimated_total_s": seconds(9.0)}
            yield {"event": bytes_tensor(b"queued"), "position": number(position), **times}
        preview_every = inputs["preview_every"].array.item() if "preview_every" in inputs else 0
        for step in (1, 2):
            if step >= self.holds_before:
                await self.go_on.wait()
            event = {"event": bytes_tensor(b"progress"), "step": number(step), "num_steps": number(2)}
            if preview_every and step % preview_every == 0:
                event["preview"] = bytes_tensor(self.preview)
            yield event
            if self.fails_after_a_step:
                raise self.fails_after_a_step
        yield {"event": bytes_tensor(b"unknown")}  # an event type that the frontend does not know
        if self.is_complete:
            info = {"info": bytes_tensor(json.dumps({"notes": self.notes}).encode())} if self.notes else {}
            yield {"event": bytes_tensor(b"completed"), **await paint(inputs), **info}


def app_of(triton: FakeTriton, settings: Settings, request: type = main.ScribbleRequest) -> TritonFrontend:
    frontend = TritonFrontend(triton=triton, settings=settings)
    frontend.infer(PATH, model=MODEL, stream_model=STREAM_MODEL, request=request, response=main.ScribbleResponse)
    return frontend


async def events_for(client: httpx2.AsyncClient, body: dict[str, Any]) -> list[ReceivedEvent]:
    async with client.stream("POST", PATH, json=body, headers=SSE) as response:
        assert response.status_code == 200
        return [event async for event in events_of(response)]


def stream_inputs(triton: FakeTriton) -> list[dict[str, Any]]:
    """The inputs of all requests to the stream model as plain values, without `describe` requests."""
    return [
        {
            name: text(inputs, name) if tensor.array.dtype == object else tensor.array.item()
            for name, tensor in inputs.items()
            if name != "timeout_s"  # every request has one
        }
        for _, inputs, _ in triton.requests
        if "describe" not in inputs
    ]
