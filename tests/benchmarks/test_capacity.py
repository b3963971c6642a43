# SPDX-License-Identifier: Apache-2.0
"""The capacity model: cases with known results, and its agreement with the simulation as the docs state it."""

import pytest

from benchmarks.capacity.large_fleets import num_gpus
from benchmarks.capacity.load import Load
from benchmarks.capacity.queueing_model import capacity, outcome
from benchmarks.capacity.replica import ASSUMED_GPU, MEASURED_CPU, Replica
from benchmarks.capacity.simulation import simulate
from benchmarks.capacity.validation import MEASURED, both, replay
from benchmarks.engine.job import MIXED_STEPS, Job

ONE_AT_A_TIME = Replica(name="one", source="a test", pass_s={1: 0.1}, max_rows=1, rows_per_request=1)


def load(rate: float, *, num_replicas: int = 1, max_in_flight: int = 200) -> Load:
    return Load(rate=rate, step_counts=(10,), num_replicas=num_replicas, max_in_flight=max_in_flight)


def test_pass_time_is_interpolated_between_measured_rows() -> None:
    assert MEASURED_CPU.pass_time_s(1) == pytest.approx(0.0493 * 1.03)
    assert MEASURED_CPU.pass_time_s(3) == pytest.approx((0.0727 + 0.1210) / 2 * 1.03)


def test_capacity_of_fleet_is_sum_of_its_replicas() -> None:
    assert capacity(ONE_AT_A_TIME, load(1, num_replicas=3)) == pytest.approx(3.0)


def test_model_of_one_request_at_a_time_matches_textbook_queue() -> None:
    """M/M/1/K at load 0.5 is busy half of the time and rejects hardly anything. With one slot, it rejects a third."""
    modelled = outcome(ONE_AT_A_TIME, load(0.5))
    assert modelled.busy == pytest.approx(0.5)
    assert modelled.rejected < 1e-9
    assert outcome(ONE_AT_A_TIME, load(0.5, max_in_flight=1)).rejected == pytest.approx(1 / 3)


def test_load_beyond_capacity_is_rejected() -> None:
    assert outcome(ONE_AT_A_TIME, load(4, num_replicas=2)).rejected == pytest.approx(0.5, abs=0.01)


def test_simulated_requests_join_between_passes_and_are_rejected_at_the_limit() -> None:
    jobs = [Job(index=index, arrival=0.05 * index, num_steps=2) for index in range(3)]
    two = Replica(name="two", source="a test", pass_s={1: 0.1, 2: 0.1}, max_rows=2, rows_per_request=1)
    record = simulate(two, load(1, max_in_flight=2), jobs)
    # The second request arrives during the first pass of the first and joins the next. The third finds two in flight.
    assert record.latencies == [pytest.approx(0.2), pytest.approx(0.25)]
    assert record.num_rejected == 1


@pytest.mark.parametrize("num_replicas", [1, 16])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_model_and_simulation_agree_within_a_third(num_replicas: int, share: float) -> None:
    modelled, simulated = both(ASSUMED_GPU, MIXED_STEPS, num_replicas, share, 4000)
    assert modelled.p95_s == pytest.approx(simulated.p95_s, rel=1 / 3)
    assert modelled.p99_s == pytest.approx(simulated.p99_s, rel=1 / 3)
    assert modelled.rejected == pytest.approx(simulated.rejected, abs=0.03)


def test_measured_throughput_is_within_simulated_range() -> None:
    for workload in MEASURED:
        rates, _, _ = replay(workload)
        assert 0.85 * min(rates) <= workload.pictures_per_s <= max(rates), workload.name


def test_hundredfold_load_needs_hundredfold_gpus() -> None:
    assert num_gpus(3500.0) == pytest.approx(100 * num_gpus(35.0), rel=0.03)
