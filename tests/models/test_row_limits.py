# SPDX-License-Identifier: Apache-2.0
"""Row limits from pass times that the test sets."""

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
    """Passes whose time the test sets. Its clock advances only during a measurement."""

    def __init__(self, seconds: Callable[[BatchKey, int], float | None]) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.measured: list[tuple[BatchKey, int]] = []

    def measure(self, key: BatchKey, num_rows: int) -> float | None:
        self.measured.append((key, num_rows))
        self.now += 1.0
        return self.seconds(key, num_rows)

    def profile(self, *, budget_s: float = 1000.0, cache_file: Path | None = None) -> RowLimits:
        return profiled(SIZES, self.measure, budget_s=budget_s, cache_file=cache_file, clock=lambda: self.now)


def launch_bound(_: BatchKey, num_rows: int) -> float:
    """A pass takes the same time with any number of rows."""
    return 0.1


def compute_bound(_: BatchKey, num_rows: int) -> float:
    return 0.1 * num_rows


def no_measuring(key: BatchKey, num_rows: int) -> float:
    raise AssertionError(f"{num_rows} rows of {key} were measured")


def test_limit_is_the_highest_row_count_if_more_rows_take_no_time() -> None:
    assert knee(dict.fromkeys(ROW_COUNTS, 0.1)) == 16


def test_limit_is_one_row_if_more_rows_gain_nothing() -> None:
    assert knee({rows: 0.1 * rows for rows in ROW_COUNTS}) == 1


def test_limit_is_the_fewest_rows_close_to_the_best_throughput() -> None:
    assert knee({1: 0.020, 2: 0.031, 4: 0.045, 8: 0.080, 16: 0.155}) == 8  # 100 rows a second, and 103
    assert knee({1: 0.020, 2: 0.031, 4: 0.045, 8: 0.080, 16: 0.140}) == 16  # 100, and 114


def test_slower_row_count_is_not_chosen() -> None:
    assert knee({1: 0.02, 2: 0.02, 4: 0.1}) == 2


def test_every_size_is_measured_and_has_its_own_limit() -> None:
    machine = Machine(lambda key, rows: (compute_bound if key == BatchKey(192, 192) else launch_bound)(key, rows))
    limits = machine.profile()
    assert [limits.max_rows(BatchKey(*size)) for size in SIZES] == [16, 16, 1]
    assert [key for key, _ in machine.measured] == [BatchKey(*size) for size in SIZES[:2] for _ in ROW_COUNTS] + [
        BatchKey(192, 192)
    ] * 3


def test_more_rows_are_not_measured_after_two_doublings_that_brought_nothing(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    machine = Machine(lambda _, rows: 0.1 * max(2, rows))
    assert machine.profile(cache_file=file).max_rows(FIRST) == 2
    assert [rows for key, rows in machine.measured if key == FIRST] == [1, 2, 4, 8]
    Machine(no_measuring).profile(cache_file=file)


def test_a_single_doubling_without_gain_may_be_chance() -> None:
    machine = Machine(lambda _, rows: {1: 0.10, 2: 0.10, 4: 0.21, 8: 0.22, 16: 0.44}[rows])
    assert machine.profile().max_rows(FIRST) == 8


def test_limits_beyond_the_budget_are_estimated_by_pixels() -> None:
    machine = Machine(lambda _, rows: 0.1 if rows <= 8 else 1.0)
    limits = machine.profile(budget_s=0.5)
    assert {key for key, _ in machine.measured} == {FIRST}
    assert limits.max_rows(FIRST) == 8
    assert limits.max_rows(BatchKey(96, 96)) == 14  # 8 * 128 * 128 // (96 * 96)
    assert limits.max_rows(BatchKey(192, 192)) == 3


def test_the_estimate_is_at_least_one_row() -> None:
    assert Machine(compute_bound).profile(budget_s=0.5).max_rows(BatchKey(192, 192)) == 1


def test_limits_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Machine(launch_bound).profile(budget_s=0.5)
    assert "passes at 128x128 by rows: 1: 100.0 ms, 2: 100.0 ms" in caplog.text
    assert "rows at most: 128x128: 16, 96x96: 28" in caplog.text


def test_measurements_are_kept_for_the_next_start(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "rows.json"
    Machine(launch_bound).profile(cache_file=file)
    limits = Machine(no_measuring).profile(cache_file=file)
    assert limits.max_rows(BatchKey(192, 192)) == 16


def test_next_start_measures_the_remaining_sizes(tmp_path: Path) -> None:
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
def test_broken_cache_is_replaced_by_new_measurements(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "rows.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert Machine(launch_bound).profile(cache_file=file).max_rows(FIRST) == 16
    assert "cannot be read" in caplog.text
    assert Machine(no_measuring).profile(cache_file=file).max_rows(FIRST) == 16


def test_unreadable_cache_folder_does_not_prevent_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Root can read everything, so the test simulates the error: another user's home folder.
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for method in ("stat", "open", "read_text", "write_text", "mkdir"):
        monkeypatch.setattr(Path, method, deny)
    assert Machine(launch_bound).profile(cache_file=tmp_path / "rows.json").max_rows(FIRST) == 16
    assert "cannot be kept" in caplog.text


def test_unwritable_cache_is_logged_and_does_not_prevent_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    limits = Machine(launch_bound).profile(cache_file=tmp_path / "file" / "rows.json")
    assert limits.max_rows(FIRST) == 16
    assert "cannot be kept" in caplog.text


def test_each_machine_checkpoint_and_dtype_has_its_own_cache(tmp_path: Path) -> None:
    paths = {
        cache_path(tmp_path, checkpoint, dtype, threads)
        for checkpoint in ("demo", "sdxl")
        for dtype in ("float32", "bfloat16")
        for threads in (1, 2)
    }
    assert len(paths) == 8
    assert cache_path(tmp_path, "demo", "float32", 2) in paths


def test_shedding_halves_the_limit_for_good() -> None:
    limits = RowLimits({FIRST: 16}, default=4)
    limits.shed(FIRST, below=12)
    assert limits.max_rows(FIRST) == 6
    limits.shed(FIRST, below=20)  # over the limit: a single large request
    assert limits.max_rows(FIRST) == 3
    assert limits.max_rows(BatchKey(96, 96)) == 4


def test_limit_is_never_below_one_row() -> None:
    limits = RowLimits({FIRST: 1})
    limits.shed(FIRST, below=2)
    limits.shed(FIRST, below=1)
    assert limits.max_rows(FIRST) == 1


def test_unmeasured_size_has_the_default_limit() -> None:
    assert RowLimits({}, default=5).max_rows(BatchKey(1, 1)) == 5


def test_row_counts_that_do_not_fit_into_memory_are_not_chosen() -> None:
    machine = Machine(lambda key, num_rows: 0.1 if num_rows * key.width * key.height <= 4 * 128 * 128 else None)
    limits = machine.profile()
    assert [limits.max_rows(BatchKey(*size)) for size in SIZES] == [4, 4, 1]
    assert (FIRST, 8) in machine.measured
    assert (FIRST, 16) not in machine.measured


def test_size_of_which_no_row_fits_is_estimated_and_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    machine = Machine(lambda key, _: 0.1 if key.width <= 128 else None)
    assert machine.profile(cache_file=file).max_rows(BatchKey(192, 192)) == 7  # as many pixels as 16 of the first size
    assert "192x192" not in json.loads(file.read_text())


def test_times_of_a_size_for_which_memory_was_short_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    Machine(lambda key, num_rows: 0.1 if key.width <= 128 or num_rows < 4 else None).profile(cache_file=file)
    assert "128x128" in json.loads(file.read_text())
    assert "192x192" not in json.loads(file.read_text())


def test_gpu_that_is_too_small_for_one_row_is_an_error_that_names_the_size() -> None:
    with pytest.raises(MemoryError, match="not even one row at 128x128 fits"):
        Machine(lambda *_: None).profile()
