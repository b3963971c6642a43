# SPDX-License-Identifier: Apache-2.0
"""Part `pictures`: seconds a picture of guided steps, alone and several at a time: the engine and stock diffusers."""

from benchmarks.engine.in_process_engine import InProcessEngine
from benchmarks.engine.job import Job
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
            stock.generate([Job(index=index, arrival=0, num_steps=1) for index in range(count)])  # a first pass is slow
            batch = bench.seconds(lambda jobs=jobs: stock.generate(jobs))  # type: ignore[misc]
            alone = alone or batch
            bench.row(
                requests_at_once=count,
                engine=shared / count,
                stock_in_a_batch=batch / count,
                stock_one_at_a_time=alone,
                engine_against_one_at_a_time=alone * count / shared,
                engine_against_batch=batch / shared,
            )
    finally:
        engine.close()
    bench.note(
        f"Seconds a picture of {num_steps} guided steps. `stock one at a time` is the time of one call. The engine "
        "also makes a preview of every step."
    )
