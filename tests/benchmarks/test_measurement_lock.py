# SPDX-License-Identifier: Apache-2.0
"""Training pauses while a measurement runs, and a measurement waits for the step of a training."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from benchmarks.common import measurement_lock
from benchmarks.common.measurement_lock import measurement, training, wait_for_measurements

if TYPE_CHECKING:
    from pathlib import Path


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
