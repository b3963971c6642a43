# SPDX-License-Identifier: Apache-2.0
"""Part `traces`: requests with different step counts arrive at random, and a fifth of the clients disconnect.

Every peer gets the same trace. Loads are relative to the capacity of stock diffusers with one request at a time.
"""

import time

from benchmarks.engine.in_process_engine import InProcessEngine
from benchmarks.engine.machine_speed import SpeedProbe, calibrate
from benchmarks.engine.peer import ENGINE, ONE_AT_A_TIME, WHOLE_BATCHES, Peer
from benchmarks.engine.whole_request_batching import WholeRequestBatching
from benchmarks.engine.workloads import Workload
from benchmarks.engine.workloads import measure as measure_workloads
from benchmarks.gpu_kit.bench import Bench


def measure(bench: Bench) -> None:
    stock = bench.stock()
    max_rows = 2 * max(bench.plan.at_once)
    probe = SpeedProbe(stock)
    reference, service = calibrate(stock, probe)
    bench.note(f"One request alone: {service.fixed_s:.2f} s, and {service.per_step_s:.3f} s a step.")
    engine = InProcessEngine(ENGINE, stock, max_rows=max_rows)
    # Its calls have at most four requests: its warm-up runs every count, and takes the time of a trace.
    batches = WholeRequestBatching(WHOLE_BATCHES, stock, max_batch=min(4, max_rows // 2))
    peers: list[Peer] = [engine, WholeRequestBatching(ONE_AT_A_TIME, stock, max_batch=1), batches]
    try:
        for peer in (engine, batches):
            peer.warm_up()
        workloads = [
            Workload(name=f"load {load}", step_counts=bench.plan.trace_steps, load=load, num_jobs=bench.plan.trace_jobs)
            for load in (0.8, 1.3)
        ]
        for repeat in range(5):
            started = time.monotonic()
            for result in measure_workloads(
                workloads, peers, repeats=1, service=service, probe=probe.seconds, reference=reference, seed=repeat
            ):
                figures = result.figures
                bench.row(
                    workload=result.workload,
                    peer=result.peer,
                    trace=repeat + 1,
                    mean_latency=figures.latency_mean,
                    p95_latency=figures.latency_p95,
                    first_preview=figures.first_preview_mean,
                    pictures_a_second=figures.throughput,
                    wasted_steps=figures.wasted_steps,
                )
            if bench.plan.is_tiny or not bench.has_time(time.monotonic() - started):
                return
    finally:
        engine.close()
