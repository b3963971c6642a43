# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of a cluster make of what they saw."""

import warnings
from dataclasses import replace

import pytest

pytest.importorskip("ray", reason="the extra `cluster` is not installed")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own
    from benchmarks.cluster import node_failures, throughput
    from benchmarks.cluster.node_failures import Death, Seen
    from benchmarks.cluster.poisson_clients import Answer
    from benchmarks.cluster.throughput import Point

pytestmark = pytest.mark.cluster


def point(load: float, p99_s: float, *, seed: int = 0, num_lost: int = 0) -> Point:
    return Point(
        replicas=1, load=load, seed=seed, rate=4 * load, asked=100, latencies_s=[p99_s] * (100 - num_lost), machine=0.1
    )


def test_what_is_carried_lies_where_p99_crosses_the_bound() -> None:
    points = [point(0.5, 1.0), point(0.75, 2.0), point(1.0, 4.0)]
    assert throughput.carried(points, bound_s=3.0) == pytest.approx(3.5)
    # Not more than was tried; nothing where the least was too much; no load at which somebody goes unanswered.
    assert throughput.carried(points[:2], bound_s=3.0) == 3.0
    assert throughput.carried(points[2:], bound_s=3.0) != throughput.carried(points[2:], bound_s=3.0)
    assert throughput.carried([points[0], point(0.75, 1.0, num_lost=1)], bound_s=3.0) == 2.0


def test_the_spread_is_what_each_seed_does_to_the_result() -> None:
    points = [point(0.5, 1.0), point(1.0, 5.0), point(0.5, 1.0, seed=1), point(1.0, 3.0, seed=1)]
    told = throughput.spread(points, bound_s=3.0)
    assert (told.least, told.median, told.most) == (3.0, 3.0, 4.0)


def seen(*answers: Answer, in_flight: int = 1) -> Seen:
    return Seen(answers=answers, deaths=[Death(at=10.0, in_flight=in_flight, back_after_s=5.0)])


LOST = Answer(asked_at=9.5, latency_s=1.0, status=503, code="triton_connection_lost")
SERVED = Answer(asked_at=9.5, latency_s=1.0, status=200)


def test_only_who_was_in_flight_on_a_node_that_dies_may_see_an_error() -> None:
    assert node_failures.is_kept(seen(SERVED, LOST))
    assert not node_failures.is_kept(seen(SERVED, LOST, LOST))  # more than were in flight there
    assert not node_failures.is_kept(seen(SERVED, replace(LOST, asked_at=10.5)))
    assert not node_failures.is_kept(seen(SERVED, replace(LOST, asked_at=5.0)))
    assert not node_failures.is_kept(seen(SERVED, replace(LOST, status=0)))  # an answer there must be


def test_an_accepted_job_that_is_not_completed_breaks_the_promise() -> None:
    kept = seen(SERVED)
    kept.jobs = [{"status": "completed", "runs": 2}]
    assert node_failures.is_kept(kept)
    kept.jobs = [{"status": "failed", "runs": 2}]
    assert not node_failures.is_kept(kept)
