# SPDX-License-Identifier: Apache-2.0
"""Part `broken_gpu`: the engine's process after an error that breaks its use of the GPU. It must end.

The part starts this module as a command, because the process ends.
"""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import torch
from diffusion_engine.gpu_health import EXIT_STATUS
from diffusion_engine.request_parser import parse_request

from benchmarks.gpu_kit.bench import Bench
from benchmarks.gpu_kit.cancellation import StepListener
from benchmarks.gpu_kit.plan import TINY


def measure(bench: Bench) -> None:
    if not bench.is_gpu:
        bench.skip("a CPU cannot break in this way.")
        return
    command = [sys.executable, "-m", "benchmarks.gpu_kit.broken_gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if "no longer works" in line] or ["nothing"]
    bench.row(case="an assertion fails on the GPU in a pass", exit_status=done.returncode, expected=EXIT_STATUS)
    bench.note(f"Its log says: {lines[-1]}")
    follows = "As expected." if done.returncode == EXIT_STATUS else "The process must end: `gpu_health`."
    bench.decide("Q10 broken GPU", measured=f"the process ended with status {done.returncode}", follows=follows)


def break_gpu() -> None:
    """Run an engine whose first pass reads beyond the end of a tensor. Returns only if the process does not end."""
    bench = Bench(plan=replace(TINY, device="cuda"), ends_at=0.0, send=lambda *_: None)
    engine = bench.engine(max_rows=2)

    def predict(states: Any) -> Any:
        del states
        return torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")].tolist()

    engine.denoiser.predict = predict  # type: ignore[method-assign]
    engine.start()
    listener = StepListener()
    engine.submit(parse_request({"prompt": b"a red house"}, engine.capabilities), listener)
    listener.wait()


if __name__ == "__main__":
    break_gpu()
