# SPDX-License-Identifier: Apache-2.0
"""Training pauses while a measurement runs, and a measurement waits for the step of a training."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from benchmarks.common import measurement_lock
from benchmarks.common.measurement_lock import measurement, training, wait_for_measurements
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement_lock, "FOLDER", tmp_path)


def test_training_waits_until_all_measurements_have_ended() -> None:
    goes_on = threading.Event()

    def train() -> None:
        wait_for_measurements()
        goes_on.set()

    with measurement():
        with measurement():
            thread = threading.Thread(target=train)
            thread.start()
        assert not goes_on.wait(0.2)  # one measurement still runs
    thread.join(timeout=30)
    assert goes_on.is_set()


def test_measurement_waits_for_step_only_if_training_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(measurement_lock.time, "sleep", waits.append)
    with measurement():
        assert waits == []
    with training(), measurement():
        assert waits == [measurement_lock.LONGEST_STEP_S]
    with measurement():
        assert len(waits) == 1  # the training has ended


# Commands that measure no time: they compute, count bytes, or serve and examine for other benchmarks.
UNTIMED = {
    "capacity/__main__.py",
    "engine/memory.py",
    "framework_internals/server.py",
    "frontend/apps/litserve_echo.py",
    "frontend/apps/without_framework.py",
    "gpu_kit/broken_gpu.py",
    "gpu_kit/machine_check.py",
    "gpu_kit/packages.py",
    "hostile/app.py",
    "hostile/liveness_probe.py",
}


def test_every_benchmark_that_measures_time_holds_the_lock() -> None:
    commands = {
        str(path.relative_to(BENCHMARKS)): text
        for path in BENCHMARKS.rglob("*.py")
        if 'if __name__ == "__main__"' in (text := path.read_text())
    }
    assert {name for name, text in commands.items() if "with measurement()" not in text} == UNTIMED
