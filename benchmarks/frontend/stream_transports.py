# SPDX-License-Identifier: Apache-2.0
"""Measure one model's stream over generate_stream and over gRPC: CPU of client and Triton, and time, per response.

`python -m benchmarks.frontend.stream_transports`
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common import cpu_time, machine
from benchmarks.common.measurement_lock import measurement
from benchmarks.common.ratio import Ratio
from fastapi_triton.core.errors import FastAPITritonError
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.grpc_stream import GRPCStreams
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.tensor import Tensor
from fastapi_triton.triton.transport.credentials import OPEN_TO_ALL

MODEL = Path(__file__).parent / "models" / "counted_stream"
ROUNDS = 11
# The number of values in a response, with the responses of a stream and the streams of a round.
SIZES = {1: (20, 30), 1_000: (20, 20), 100_000: (5, 4)}

Stream = AsyncGenerator[dict[str, Tensor], None]


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds for each response."""

    client_cpu: float
    triton_cpu: float
    elapsed: float


class Transports:
    """The same streams over both transports."""

    def __init__(self, http: HTTPTriton, grpc: GRPCStreams, config: ModelConfig) -> None:
        self._http = http
        self._grpc = grpc
        self._config = config

    def stream(self, name: str, inputs: dict[str, Tensor]) -> Stream:
        if name == "http":
            return self._http.stream(self._config.name, inputs)
        return self._grpc.stream(inputs, self._config, "", "", timeout_s=60, trace_headers=())

    async def cost(self, name: str, num_values: int) -> Cost:
        times, streams = SIZES[num_values]
        values = np.linspace(0, 1, num_values, dtype=np.float32)
        inputs = {
            "values": Tensor(BY_WIRE["FP32"], values),
            "times": Tensor(BY_WIRE["INT32"], np.array([times], np.int32)),
        }
        triton = cpu_time.tree(os.getpid())[1:]
        cpu, triton_cpu, started = time.process_time(), cpu_time.seconds(triton), time.perf_counter()
        for _ in range(streams):
            async with aclosing(self.stream(name, inputs)) as responses:
                num_responses = len([outputs async for outputs in responses])
            if num_responses != times:
                raise RuntimeError(f"{num_responses} responses instead of {times}")
        spent = (
            time.process_time() - cpu,
            cpu_time.seconds(triton) - triton_cpu,
            time.perf_counter() - started,
        )
        return Cost(*(each / times / streams * 1e6 for each in spent))


async def loaded(http: HTTPTriton) -> ModelConfig:
    """The model's config, once it is loaded."""
    while True:
        try:
            if await http.ready(MODEL.name):
                return await http.config(MODEL.name)
        except FastAPITritonError:
            pass
        await asyncio.sleep(0.1)


async def measure(repository: Path) -> None:
    async with (
        EmbeddedTriton.prepare(repository, has_grpc=True) as triton,
        HTTPTriton(triton.url) as http,
    ):
        config = await loaded(http)
        grpc = GRPCStreams(triton.grpc_url or "", OPEN_TO_ALL, connect_timeout_s=5, processes=http.processes)
        transports = Transports(http, grpc, config)
        for num_values in SIZES:
            costs: dict[str, list[Cost]] = {"http": [], "grpc": []}
            for index in range(ROUNDS + 1):
                for name in ("http", "grpc") if index % 2 else ("grpc", "http"):
                    cost = await transports.cost(name, num_values)
                    if index:  # the first round warms up
                        costs[name].append(cost)
            print_row(num_values, costs)
        await grpc.close()


def print_row(num_values: int, costs: dict[str, list[Cost]]) -> None:
    cells = []
    for field in ("client_cpu", "triton_cpu", "elapsed"):
        http, grpc = ([getattr(cost, field) for cost in costs[name]] for name in ("http", "grpc"))
        ratio = Ratio.of([ours / theirs for ours, theirs in zip(grpc, http, strict=True)])
        cells.append(f"{np.median(http):,.0f} → {np.median(grpc):,.0f} µs, {ratio}")
    sys.stdout.write(f"| {num_values:,} | {' | '.join(cells)} |\n")
    sys.stdout.flush()


def main() -> None:
    sys.stdout.write(
        f"{machine.cpu_name()}, commit {machine.commit()}\n\n"
        "| FP32 values | CPU of the client, HTTP → gRPC | CPU of Triton | time |\n| --- | --- | --- | --- |\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(MODEL, Path(folder) / MODEL.name)
        asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    with measurement():
        main()
