# SPDX-License-Identifier: Apache-2.0
"""The GPU kit on a CPU: one run with tiny networks, whose numbers must make sense."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ROOT
from benchmarks.engine.peer import ENGINE, ONE_AT_A_TIME, WHOLE_BATCHES
from benchmarks.gpu_kit.part import PARTS
from benchmarks.gpu_kit.plan import TINY

# The whole run takes a minute. The first test waits for it.
pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

RUN = ROOT / "benchmarks" / "gpu_kit" / "run"

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run."""
    folder = tmp_path_factory.mktemp("out")
    done = subprocess.run(
        [RUN, "--tiny", "--minutes", "30", "--out", folder],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def results(out: Path) -> dict[str, Any]:
    (file,) = out.glob("*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.fixture(scope="module")
def rows(results: dict[str, Any]) -> dict[str, Rows]:
    """The rows by part."""
    return {part["name"]: part["rows"] for part in results["parts"]}


def test_every_part_has_run(results: dict[str, Any]) -> None:
    states = {part["name"]: (part["status"], part["reason"]) for part in results["parts"]}
    expected = {part.name: ("done", "") for part in PARTS}
    expected["broken_gpu"] = ("skipped", "a CPU cannot break in this way.")
    expected["copies"] = ("skipped", "a CPU needs no copies.")
    assert states == expected
    assert results["seconds"] >= sum(part["seconds"] for part in results["parts"]) > 0


def test_no_number_is_negative_or_not_finite(rows: dict[str, Rows]) -> None:
    for part, found in rows.items():
        for row in found:
            numbers = [value for value in row.values() if isinstance(value, float)]
            assert all(math.isfinite(number) and number >= 0 for number in numbers), (part, row)


def test_build_counts_the_weights_of_all_networks(rows: dict[str, Rows]) -> None:
    weights = {row["what"]: row for row in rows["build"] if "weights GiB" in row}
    assert set(weights) == {"UNet", "ControlNet", "VAE", "text encoder", "text encoder 2"}
    for row in weights.values():  # four bytes for each parameter in float32
        assert row["weights GiB"] * 2**30 == pytest.approx(4 * row["billion parameters"] * 1e9)


def test_passes_are_measured_for_every_layout_size_and_row_count(rows: dict[str, Rows]) -> None:
    measured = [(row["layout"], row["size"], row["rows"]) for row in rows["passes"]]
    sizes = [f"{width}x{height}" for width, height in TINY.sizes]
    layouts = ("channels_last", "contiguous")
    assert measured == [(layout, size, count) for layout in layouts for size in sizes for count in TINY.rows]
    for row in rows["passes"]:
        assert row["ms a row"] * row["rows"] == pytest.approx(row["ms a pass"])
        if row["rows"] == 2:
            assert row["throughput against 2 rows"] == pytest.approx(1)


def test_pictures_equal_those_of_stock_diffusers(rows: dict[str, Rows]) -> None:
    by_name = {row["networks"]: row for row in rows["parity"]}
    for networks in ("demo checkpoint", "random weights"):
        exact = by_name[f"{networks}, float32"]
        assert exact["pictures"] == len(TINY.parity_steps)
        assert exact["largest difference"] <= 1
        for dtype, most in (("float16", 0.5), ("bfloat16", 3)):
            row = by_name[f"{networks}, {dtype}"]
            assert row["mean difference"] < most
            assert 0 < row["engine to float32"] < most  # 0 would mean that the dtype was not used
        assert all(row["contrast"] > 5 for row in by_name.values() if row["pictures"])  # no grey or black pictures


def test_vae_that_overflows_is_an_error_without_force_upcast_and_a_picture_with_it(rows: dict[str, Rows]) -> None:
    by_name = {row["networks"]: row for row in rows["parity"]}
    for networks in ("demo checkpoint", "random weights"):
        assert by_name[f"{networks}, float16, a VAE that overflows"]["error"] == "vae_overflow"
        assert by_name[f"{networks}, float16, the same with `force_upcast`"]["largest difference"] <= 1


def test_cancelled_request_has_at_most_one_more_step(rows: dict[str, Rows]) -> None:
    assert len(rows["cancellation"]) == TINY.cancellations
    for row in rows["cancellation"]:
        assert row["steps after"] <= 1
        assert row["ms until rows are free"] <= row["ms until the next request ended a step"]


def test_pictures_are_timed_for_every_number_of_requests(rows: dict[str, Rows]) -> None:
    assert [row["requests at once"] for row in rows["pictures"]] == list(TINY.at_once)
    for row in rows["pictures"]:
        gain = row["engine against one at a time"]
        assert gain == pytest.approx(row["stock one at a time"] / row["engine"])


def test_compilation_is_counted(rows: dict[str, Rows]) -> None:
    by_code: dict[str, list[int]] = {}
    for row in rows["compiled"]:
        by_code.setdefault(row["code"], []).append(row["graphs compiled"])
        assert row["graph breaks"] == 0
    for layout in ("channels_last", "contiguous"):  # later row counts and sizes use the same code
        first, *_, last = by_code[f"as the engine, {layout}"]
        assert first > 0
        assert last == 0
    assert all(count > 0 for count in by_code["for each row count, channels_last"])


def test_every_peer_serves_both_loads(rows: dict[str, Rows]) -> None:
    measured = {(row["workload"], row["peer"]) for row in rows["traces"]}
    assert measured == {
        (f"load {load}", peer) for load in (0.8, 1.3) for peer in (ENGINE, ONE_AT_A_TIME, WHOLE_BATCHES)
    }
    for row in rows["traces"]:
        has_previews = row["first preview"] < row["mean latency"]
        assert has_previews == (row["peer"] == ENGINE)


def test_engine_recovers_when_its_memory_runs_out(rows: dict[str, Rows]) -> None:
    together, undecoded, smaller = rows["recovery"]
    assert together["outcome"] == "finished, finished, finished, finished"
    assert together["row limit afterwards"] == 4
    assert undecoded["outcome"] == "out_of_memory"
    assert smaller["outcome"] == "finished"


def test_reproducible_pictures_are_equal(rows: dict[str, Rows]) -> None:
    assert len(rows["reproducible"]) == len(TINY.sizes)
    for row in rows["reproducible"]:
        assert row["different in all"] == 1
        assert row["pictures"] == 2 * TINY.num_repeats


def test_passes_take_no_longer_than_their_steps(rows: dict[str, Rows]) -> None:
    assert len(rows["idle"]) == 2 * 2 * 2 * 2  # sizes, requests, schedulers, previews
    for row in rows["idle"]:
        assert 0 < row["ms in the pass"] <= row["ms a step"]
        assert row["idle share"] == pytest.approx(1 - row["ms in the pass"] / row["ms a step"])


def test_decoding_is_timed_in_every_dtype_and_beside_passes(rows: dict[str, Rows]) -> None:
    times = {row["what"]: row["ms"] for row in rows["vae"]}
    assert len(times) == 3 * 2 + 1 + 2 + 3
    assert min(times.values()) > 0


def test_every_backend_of_attention_is_compared_with_the_default(rows: dict[str, Rows]) -> None:
    assert len(rows["attention"]) == 4
    assert all(row["default ms"] > 0 and row["math ms"] > 0 for row in rows["attention"])


def test_questions_are_answered(results: dict[str, Any]) -> None:
    answered = {row["question"] for part in results["parts"] for row in part["decisions"]}
    assert answered >= {"Q1 memory layout", "Q2 compile", "Q4 idle GPU", "Q5 VAE's stream", "Q9 out of memory"}


def test_whole_path_serves_pictures_with_previews(rows: dict[str, Rows]) -> None:
    ready, *served = rows["served"]
    assert ready["what"] == "from start to ready"
    assert len(served) == len(TINY.at_once)
    assert all(0 < row["first preview"] < row["seconds"] for row in served)


def test_page_has_every_number_and_the_chart(out: Path, results: dict[str, Any], rows: dict[str, Rows]) -> None:
    (page,) = out.glob("*.md")
    text = page.read_text()
    for part in PARTS:
        assert f"## {part.title}" in text
        assert part.decides in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    decisions = [row for part in results["parts"] for row in part["decisions"]]
    num_tables = 2 + sum(1 for found in rows.values() if found)
    assert len(tables) == 2 * num_tables + len(PARTS) + len(decisions) + sum(map(len, rows.values()))
    (chart,) = out.glob("*.svg")
    assert f"]({chart.name})" in text
    assert chart.read_text().count("4 rows") == 1
