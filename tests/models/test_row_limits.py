# SPDX-License-Identifier: Apache-2.0
"""How many rows a pass may have: from times that the test makes up."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from diffusion_engine.request_state import BatchKey
from diffusion_engine.row_limits import ROW_COUNTS, RowLimits, cache_path, knee, profiled

SIZES = [(128, 128), (96, 96), (192, 192)]
FIRST = BatchKey(128, 128)


class Machine:
    """Passes whose time the test decides; its clock moves only while it is measured."""

    def __init__(self, seconds: Callable[[BatchKey, int], float]) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.measured: list[tuple[BatchKey, int]] = []

    def measure(self, key: BatchKey, num_rows: int) -> float:
        self.measured.append((key, num_rows))
        self.now += 1.0
        return self.seconds(key, num_rows)

    def profile(self, *, budget_s: float = 1000.0, cache_file: Path | None = None) -> RowLimits:
        return profiled(SIZES, self.measure, budget_s=budget_s, cache_file=cache_file, clock=lambda: self.now)


def launch_bound(_: BatchKey, num_rows: int) -> float:
    """Any number of rows takes as long as one."""
    return 0.1


def compute_bound(_: BatchKey, num_rows: int) -> float:
    return 0.1 * num_rows


def no_measuring(key: BatchKey, num_rows: int) -> float:
    raise AssertionError(f"{num_rows} rows of {key} were measured")


def test_where_more_rows_are_free_all_are_taken() -> None:
    assert knee(dict.fromkeys(ROW_COUNTS, 0.1)) == 16


def test_where_more_rows_bring_nothing_one_is_enough() -> None:
    assert knee({rows: 0.1 * rows for rows in ROW_COUNTS}) == 1


def test_the_knee_is_the_first_count_that_comes_near_the_best() -> None:
    assert knee({1: 0.020, 2: 0.031, 4: 0.045, 8: 0.080, 16: 0.155}) == 8  # 100 rows a second, and 103
    assert knee({1: 0.020, 2: 0.031, 4: 0.045, 8: 0.080, 16: 0.140}) == 16  # 100, and 114


def test_a_count_that_is_slower_than_fewer_is_not_taken() -> None:
    assert knee({1: 0.02, 2: 0.02, 4: 0.1}) == 2


def test_every_size_is_measured_and_gets_its_own_knee() -> None:
    machine = Machine(lambda key, rows: (compute_bound if key == BatchKey(192, 192) else launch_bound)(key, rows))
    limits = machine.profile()
    assert [limits.max_rows(BatchKey(*size)) for size in SIZES] == [16, 16, 1]
    assert machine.measured == [(BatchKey(*size), rows) for size in SIZES for rows in ROW_COUNTS]


def test_when_the_budget_is_spent_the_other_sizes_bear_as_many_pixels_as_the_first() -> None:
    machine = Machine(lambda _, rows: 0.1 if rows <= 8 else 1.0)
    limits = machine.profile(budget_s=0.5)
    assert {key for key, _ in machine.measured} == {FIRST}
    assert limits.max_rows(FIRST) == 8
    assert limits.max_rows(BatchKey(96, 96)) == 14  # 8 * 128 * 128 // (96 * 96)
    assert limits.max_rows(BatchKey(192, 192)) == 3


def test_the_estimate_is_at_least_one_row() -> None:
    assert Machine(compute_bound).profile(budget_s=0.5).max_rows(BatchKey(192, 192)) == 1


def test_what_was_found_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Machine(launch_bound).profile(budget_s=0.5)
    assert "rows at 128x128: at most 16 (1: 100.0 ms, 2: 100.0 ms" in caplog.text
    assert "rows at 96x96: at most 28 (estimated)" in caplog.text


def test_what_was_measured_is_kept_for_the_next_start(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "rows.json"
    Machine(launch_bound).profile(cache_file=file)
    limits = Machine(no_measuring).profile(cache_file=file)
    assert limits.max_rows(BatchKey(192, 192)) == 16


def test_the_next_start_goes_on_where_the_budget_ended(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    Machine(launch_bound).profile(budget_s=0.5, cache_file=file)
    second = Machine(launch_bound)
    second.profile(cache_file=file)
    assert {key for key, _ in second.measured} == {BatchKey(96, 96), BatchKey(192, 192)}


TIMES = {"1": 0.1, "2": 0.1}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"128x128": []}',
        '{"128x128": {}}',
        '{"128x128": {"1": null}}',
        '{"128x128": {"1": "fast"}}',
        '{"128x128": {"one": 0.1}}',
        '{"128x128": {"1": 0}}',
        '{"128x128": {"1": -1, "2": 0.1}}',
        '{"128x128": {"0": 0.1}}',
        '{"128x128": {"1": NaN}}',
        '{"128x128": {"1": Infinity}}',
        json.dumps({"128x128": TIMES, "96x96": TIMES, "192x192": {}}),
        "\udc80",
    ],
)
def test_a_broken_cache_is_measured_anew_and_mended(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "rows.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert Machine(launch_bound).profile(cache_file=file).max_rows(FIRST) == 16
    assert "cannot be read" in caplog.text
    assert Machine(no_measuring).profile(cache_file=file).max_rows(FIRST) == 16


def test_a_cache_that_may_not_be_looked_at_is_no_reason_not_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Root may look at everything, so the refusal is played: a home folder of another user's.
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for method in ("stat", "open", "read_text", "write_text", "mkdir"):
        monkeypatch.setattr(Path, method, refuse)
    assert Machine(launch_bound).profile(cache_file=tmp_path / "rows.json").max_rows(FIRST) == 16
    assert "cannot be kept" in caplog.text


def test_a_cache_that_cannot_be_written_is_said_and_not_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    limits = Machine(launch_bound).profile(cache_file=tmp_path / "file" / "rows.json")
    assert limits.max_rows(FIRST) == 16
    assert "cannot be kept" in caplog.text


def test_another_machine_checkpoint_or_dtype_has_a_cache_of_its_own(tmp_path: Path) -> None:
    paths = {
        cache_path(tmp_path, checkpoint, dtype, threads)
        for checkpoint in ("demo", "sdxl")
        for dtype in ("float32", "bfloat16")
        for threads in (1, 2)
    }
    assert len(paths) == 8
    assert cache_path(tmp_path, "demo", "float32", 2) in paths


def test_shedding_halves_what_did_not_fit_and_stays() -> None:
    limits = RowLimits({FIRST: 16}, default=4)
    limits.shed(FIRST, below=12)
    assert limits.max_rows(FIRST) == 6
    limits.shed(FIRST, below=20)  # more than the limit: one big request was let through
    assert limits.max_rows(FIRST) == 3
    assert limits.max_rows(BatchKey(96, 96)) == 4


def test_shedding_never_ends_below_one_row() -> None:
    limits = RowLimits({FIRST: 1})
    limits.shed(FIRST, below=2)
    limits.shed(FIRST, below=1)
    assert limits.max_rows(FIRST) == 1


def test_a_size_that_nobody_measured_has_the_default() -> None:
    assert RowLimits({}, default=5).max_rows(BatchKey(1, 1)) == 5
