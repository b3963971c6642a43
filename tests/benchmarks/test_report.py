# SPDX-License-Identifier: Apache-2.0
"""Figures and tables of known outcomes."""

import math

import pytest

from benchmarks.common.bar_chart import bar_chart
from benchmarks.common.ratio import Ratio
from benchmarks.engine.engine_tables import ratio, ratio_table, workload_table
from benchmarks.engine.ideal_time import IdealTime
from benchmarks.engine.job import Job
from benchmarks.engine.outcome import Outcome, figures
from benchmarks.engine.workloads import Result, Workload

WORKLOAD = Workload(name="load 0.8, mixed", step_counts=(4, 8), load=0.8, num_jobs=3)


def outcomes(*, slower: float = 1.0) -> list[Outcome]:
    jobs = [
        Job(index=0, arrival=0.0, num_steps=4),
        Job(index=1, arrival=1.0, num_steps=8),
        Job(index=2, arrival=1.0, num_steps=8, leaves_after=0.5),
    ]
    return [
        Outcome(job=jobs[0], ended=2.0 * slower, first_preview=0.5 * slower),
        Outcome(job=jobs[1], ended=1.0 + 3.0 * slower),
        Outcome(job=jobs[2], ended=9.0, wasted_steps=3, steps_before_leaving=2),
    ]


def result(peer: str, repeat: int, *, slower: float = 1.0) -> Result:
    return Result(
        workload=WORKLOAD.name,
        peer=peer,
        repeat=repeat,
        pace=1.0,
        pace_spread=0.0,
        figures=figures(outcomes(slower=slower)),
    )


def test_latencies_are_of_clients_that_stay_and_picture_counts_as_missing_preview() -> None:
    known = figures(outcomes())
    assert known.latency_mean == pytest.approx(2.5)
    assert known.first_preview_mean == pytest.approx((0.5 + 3.0) / 2)
    assert known.throughput == pytest.approx(2 / 4.0)
    assert (known.wasted_steps, known.wasted_steps_most) == (3.0, 3)


def test_ideal_time_has_the_steps_until_a_client_disconnects() -> None:
    known, ideal = figures(outcomes()), IdealTime(per_step=1.0, per_picture=10.0)
    jobs = [each.job for each in outcomes()]
    assert ideal.of(jobs) == 4 + 8 + 2 * 10
    assert ideal.of(jobs, steps_before_leaving=known.steps_before_leaving) == 4 + 8 + 2 + 2 * 10


def test_figures_are_same_on_machine_at_half_pace() -> None:
    jobs = [Outcome(job=each.job.paced(2.0), ended=2 * each.ended, wasted_steps=3) for each in outcomes()]
    assert figures(jobs, pace=2.0).latency_mean == figures(outcomes()).latency_mean
    assert figures(jobs, pace=2.0).throughput == figures(outcomes()).throughput


def test_ratios_compare_same_trace_and_have_spread() -> None:
    ours = [result("engine", 0), result("engine", 1)]
    theirs = [result("(a)", 1, slower=2.0), result("(a)", 0, slower=4.0)]
    found = ratio(ours, theirs, lambda each: each.latency_mean)
    assert found == Ratio(pytest.approx(0.375), pytest.approx(0.25), pytest.approx(0.5))


def test_ratio_to_peer_that_was_not_measured_is_nan() -> None:
    assert math.isnan(ratio([result("engine", 0)], [], lambda each: each.latency_mean).median)


def test_tables_have_row_for_each_peer_and_column_for_each_other_peer() -> None:
    results = [result("engine", 0), result("(a)", 0, slower=2.0)]
    assert [line.split("|")[1].strip() for line in workload_table(results, WORKLOAD, ["(a)", "engine"])[2:]] == [
        "(a)",
        "engine",
    ]
    assert "| load 0.8, mixed | mean latency | 0.50 (0.50 to 0.50) |" in ratio_table(
        results, [WORKLOAD], "engine", ["(a)"]
    )


def test_bar_chart_is_well_formed_and_names_all_peers() -> None:
    from xml.etree import ElementTree

    drawn = bar_chart("a < b", "x", {WORKLOAD.name: {"(a)": Ratio(1.0, 1.0, 1.0)}}, ["(a)"])
    texts = [element.text for element in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314
    assert texts == ["a < b", "(a)", WORKLOAD.name, "1.00x"]
