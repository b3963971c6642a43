# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.hostile.app PORT`: run the frontend without a Triton, and measure its event loop.

None of the requests should reach a model.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import JSONResponse

import main
from benchmarks import ROOT
from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.serving.server import Server
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton import config_text
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig, from_server

PATH, MODEL, STREAM = main.path, main.model, f"{main.model}_stream"
# Interval of the clock's turns in the event loop, which is the precision of measured blocks.
_TURN_S = 0.001


def _config(name: str, **inputs: str) -> ModelConfig:
    tensors = tuple(TensorConfig(each, BY_WIRE[wire], (-1,)) for each, wire in inputs.items())
    return ModelConfig(name, 0, tensors, (TensorConfig("output", BY_WIRE["FP32"], (-1,)),))


def _scribble(name: str) -> ModelConfig:
    return from_server(config_text.read(ROOT / "models" / name / "config.pbtxt"))


class LoopClock:
    """Measures the longest time in which the event loop did nothing else.

    Time in which other processes had the cores does not count.
    """

    def __init__(self) -> None:
        self._longest_s = 0.0

    async def run(self) -> None:
        while True:
            started, cpu_s = time.perf_counter(), time.process_time()
            await asyncio.sleep(_TURN_S)
            blocked_s = min(time.perf_counter() - started - _TURN_S, time.process_time() - cpu_s)
            self._longest_s = max(self._longest_s, blocked_s)

    def take_s(self) -> float:
        longest_s, self._longest_s = self._longest_s, 0.0
        return longest_s


def make() -> TritonFrontend:
    """The app of `main.py` and two generated endpoints, with models that are not run."""
    clock = LoopClock()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        running = asyncio.create_task(clock.run())
        yield
        running.cancel()

    triton = FakeTriton()
    for config in (
        _scribble(MODEL),
        _scribble(STREAM),
        _config("numbers", values="FP32"),
        _config("texts", values="BYTES"),
    ):
        triton.add(config)
    frontend = TritonFrontend(triton=triton, settings=Settings(generate=True), lifespan=lifespan)
    frontend.infer(PATH, model=MODEL, stream_model=STREAM, request=main.ScribbleRequest, response=main.ScribbleResponse)

    @frontend.get("/longest-block")
    async def longest_block() -> JSONResponse:
        return JSONResponse({"seconds": clock.take_s()})

    return frontend


if __name__ == "__main__":
    server = Server(make(), port=int(sys.argv[1]))
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve())
