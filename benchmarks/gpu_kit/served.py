# SPDX-License-Identifier: Apache-2.0
"""Part `served`: HTTP requests to the frontend, which calls the engine in an embedded Triton. The demo checkpoint."""

import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import ROOT
from benchmarks.engine.job import Job
from benchmarks.engine.stock_pipeline import Weights
from benchmarks.gpu_kit.bench import Bench
from benchmarks.gpu_kit.packages import NEEDED_BY_SERVED, missing


def measure(bench: Bench) -> None:
    if names := missing(NEEDED_BY_SERVED):
        bench.note(f"Missing: {', '.join(names)}.")
        bench.send("skipped", f"{len(names)} packages are missing; `wheels {python()} --served` downloads them.")
        return
    sys.path.insert(0, str(ROOT / "src"))
    from fastapi_triton.embedded.preflight import gather, obstacles

    if found := obstacles(gather(Path(tempfile.gettempdir()))):
        bench.send("skipped", " ".join(obstacle.sentence for obstacle in found))
        return
    from benchmarks.engine.served_engine import ServedEngine

    started = time.monotonic()
    served = ServedEngine("served", Weights(device=bench.plan.device), max_rows=2 * max(bench.plan.at_once))
    try:
        bench.row(what="from start to ready", seconds=time.monotonic() - started)
        served.warm_up()
        for count in bench.plan.at_once:
            rounds = [served.run(jobs(count, bench.plan.num_steps)) for _ in range(1 if bench.plan.is_tiny else 3)]
            ended = [max(outcome.ended for outcome in outcomes) for outcomes in rounds]
            previews = [
                each.first_preview for outcomes in rounds for each in outcomes if each.first_preview is not None
            ]
            bench.row(
                what=f"{count} at once, {bench.plan.num_steps} steps",
                seconds=statistics.median(ended),
                first_preview=statistics.median(previews),
            )
    finally:
        served.close()


def jobs(count: int, num_steps: int) -> list[Job]:
    return [Job(index=index, arrival=0, num_steps=num_steps) for index in range(count)]


def python() -> str:
    return ".".join(platform.python_version_tuple()[:2])
