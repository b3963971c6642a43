# SPDX-License-Identifier: Apache-2.0
"""The figures that the cluster benchmarks compute from their measurements."""

import warnings
from dataclasses import replace

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own
    from benchmarks.cluster import node_failures, throughput
    from benchmarks.cluster.node_failures import Death, Run
    from benchmarks.cluster.poisson_clients import Response
    from benchmarks.cluster.throughput import Point

pytestmark = pytest.mark.cluster


def point(load: float, p99_s: float, *, seed: int = 0, num_lost: int = 0) -> Point:
    return Point(
        replicas=1,
        load=load,
        seed=seed,
        rate=4 * load,
        num_sent=100,
        latencies_s=[p99_s] * (100 - num_lost),
        machine=0.1,
    )


def test_throughput_is_rate_at_which_p99_reaches_bound() -> None:
    points = [point(0.5, 1.0), point(0.75, 2.0), point(1.0, 4.0)]
    assert throughput.throughput_at(points, bound_s=3.0) == pytest.approx(3.5)
    # At most the highest rate tried; NaN if the lowest was too high; no load with a lost request.
    assert throughput.throughput_at(points[:2], bound_s=3.0) == 3.0
    assert throughput.throughput_at(points[2:], bound_s=3.0) != throughput.throughput_at(points[2:], bound_s=3.0)
    assert throughput.throughput_at([points[0], point(0.75, 1.0, num_lost=1)], bound_s=3.0) == 2.0


def test_spread_shows_effect_of_each_seed() -> None:
    points = [point(0.5, 1.0), point(1.0, 5.0), point(0.5, 1.0, seed=1), point(1.0, 3.0, seed=1)]
    overall = throughput.spread(points, bound_s=3.0)
    assert (overall.least, overall.median, overall.most) == (3.0, 3.0, 4.0)


def run(*responses: Response, in_flight: int = 1) -> Run:
    return Run(responses=responses, deaths=[Death(at=10.0, in_flight=in_flight, replaced_after_s=5.0)])


LOST = Response(sent_at=9.5, latency_s=1.0, status=503, code="triton_connection_lost")
SERVED = Response(sent_at=9.5, latency_s=1.0, status=200)


def test_only_requests_in_flight_on_dying_node_may_fail() -> None:
    assert node_failures.keeps_promises(run(SERVED, LOST))
    assert not node_failures.keeps_promises(run(SERVED, LOST, LOST))  # more than were in flight there
    assert not node_failures.keeps_promises(run(SERVED, replace(LOST, sent_at=10.5)))
    assert not node_failures.keeps_promises(run(SERVED, replace(LOST, sent_at=5.0)))
    assert not node_failures.keeps_promises(run(SERVED, replace(LOST, status=0)))  # there must be a response


def test_accepted_job_that_does_not_complete_breaks_promise() -> None:
    kept = run(SERVED)
    kept.jobs = [{"status": "completed", "runs": 2}]
    assert node_failures.keeps_promises(kept)
    kept.jobs = [{"status": "failed", "runs": 2}]
    assert not node_failures.keeps_promises(kept)
