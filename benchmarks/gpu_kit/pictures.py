# SPDX-License-Identifier: Apache-2.0
"""Part `pictures`: seconds a picture of guided steps, alone and several at a time: the engine and stock diffusers."""

from dataclasses import replace

from benchmarks.engine.in_process_engine import InProcessEngine
from benchmarks.engine.job import Job
from benchmarks.engine.stock_pipeline import StockPipeline
from benchmarks.gpu_kit.bench import Bench


def measure(bench: Bench) -> None:
    stock = bench.stock()
    num_steps = bench.plan.num_steps
    engine = InProcessEngine("engine", stock, max_rows=2 * max(bench.plan.at_once))
    engine.warm_up()
    stock.warm_up()
    alone = 0.0
    try:
        for count in bench.plan.at_once:
            if not bench.has_time(2 * 1.2 * count * alone):
                return
            jobs = [Job(index=index, arrival=0, num_steps=num_steps) for index in range(count)]
            shared = max(outcome.ended for outcome in engine.run(jobs))
            batch = stock_seconds(bench, stock, jobs)
            alone = alone or batch or 0.0
            bench.row(
                requests_at_once=count,
                engine=shared / count,
                stock_in_a_batch=batch / count if batch else None,
                stock_one_at_a_time=alone or None,
                engine_against_one_at_a_time=alone * count / shared if alone else None,
                engine_against_batch=batch / shared if batch else None,
            )
    finally:
        engine.close()
    bench.note(
        f"Seconds a picture of {num_steps} guided steps. `stock one at a time` is the time of one call. The engine "
        "also makes a preview of every step."
    )


def stock_seconds(bench: Bench, stock: StockPipeline, jobs: list[Job]) -> float | None:
    """The time of one call for all jobs; None if it cannot run them."""
    try:
        stock.generate([replace(job, num_steps=1) for job in jobs])  # a first pass is slow
        return bench.seconds(lambda: stock.generate(jobs))
    except RuntimeError as error:  # too little memory, or its VAE's tensors have too many numbers for an operation
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        bench.note(f"Stock diffusers cannot make {len(jobs)} pictures at once. {reason}")
        return None
