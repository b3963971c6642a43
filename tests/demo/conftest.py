# SPDX-License-Identifier: Apache-2.0
"""Trainings in tests do not pause for measurements of the machine, such as a benchmark that runs beside the tests."""

from __future__ import annotations

import pytest

from benchmarks.common import measurement_lock


@pytest.fixture(autouse=True)
def own_measurement_lock(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement_lock, "FOLDER", tmp_path_factory.mktemp("locks"))
