# SPDX-License-Identifier: Apache-2.0
"""Runs parts of the GPU kit with tiny networks on a CPU whose `torch.cuda` pretends to be a GPU, as a command.

It shows that the code which only runs on a GPU starts and ends. Its numbers mean nothing.
"""

import contextlib
import importlib
import json
import math
import sys
import time
from typing import Any

import torch

from benchmarks.gpu_kit.bench import Bench, prepare
from benchmarks.gpu_kit.plan import TINY


class Stream:
    def wait_stream(self, other: "Stream") -> None: ...


class Event:
    def __init__(self, *, enable_timing: bool) -> None: ...

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, later: "Event") -> float:
        return 1000 * (later.at - self.at)


class Graph:
    def replay(self) -> None:
        time.sleep(0.001)

    def reset(self) -> None: ...


def pretend() -> None:
    cuda: Any = torch.cuda
    for name in ("synchronize", "reset_peak_memory_stats", "empty_cache", "set_sync_debug_mode", "_sleep"):
        setattr(cuda, name, lambda *_: None)
    cuda.set_per_process_memory_fraction = cuda.memory._set_allocator_settings = lambda _: None
    cuda.memory_allocated = cuda.max_memory_allocated = cuda.memory_reserved = lambda: 2**30
    cuda.memory_stats = lambda: {"num_alloc_retries": 0, "num_ooms": 0}
    cuda.mem_get_info = lambda: (2**34, 2**34)
    cuda.Stream = cuda.current_stream = Stream
    cuda.Event, cuda.CUDAGraph = Event, Graph
    cuda.stream = cuda.graph = lambda _: contextlib.nullcontext()
    tensor: Any = torch.Tensor
    move = tensor.to
    tensor.pin_memory = lambda self: self
    tensor.to = lambda self, *where, **how: self if where[:1] == ("cuda",) else move(self, *where, **how)
    bench: Any = Bench
    bench.is_gpu = property(lambda _: True)


if __name__ == "__main__":
    prepare(TINY)
    pretend()
    for part in sys.argv[1:]:
        measure = importlib.import_module(f"benchmarks.gpu_kit.{part}").measure
        measure(Bench(plan=TINY, ends_at=math.inf, send=lambda *message: sys.stdout.write(json.dumps(message) + "\n")))
