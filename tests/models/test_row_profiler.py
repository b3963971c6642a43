# SPDX-License-Identifier: Apache-2.0
"""Row limits: configured, or measured at the start and cached in a file."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusion_engine import row_profiler
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.networks import Networks
from diffusion_engine.request_state import BatchKey
from diffusion_engine.row_profiler import choose_row_limits, pass_timer
from drawings import CHECKPOINT

CONFIG = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[BatchKey, int]]:
    """The measured passes, on a machine where 4 rows are best."""
    calls: list[tuple[BatchKey, int]] = []

    def measure(key: BatchKey, num_rows: int) -> float:
        calls.append((key, num_rows))
        return max(4, num_rows) * 0.01

    monkeypatch.setattr(row_profiler, "pass_timer", lambda *_: measure)
    return calls


def test_default_size_is_measured_first_and_kept(
    networks: Networks, capabilities: Capabilities, measured: list[tuple[BatchKey, int]], tmp_path: Path
) -> None:
    config = replace(CONFIG, profile_folder=str(tmp_path / "cache"))
    limits = choose_row_limits(config, networks, capabilities)
    assert measured[0][0] == BatchKey(128, 128)
    assert limits.max_rows(BatchKey(128, 128)) == 4
    assert len(list((tmp_path / "cache").glob("rows-*.json"))) == 1
    measured.clear()
    choose_row_limits(config, networks, capabilities)
    assert measured == []


def test_other_weights_in_the_checkpoint_are_measured_again(
    networks: Networks, capabilities: Capabilities, measured: list[tuple[BatchKey, int]], tmp_path: Path
) -> None:
    config = replace(CONFIG, profile_folder=str(tmp_path))
    for revision, num_files in (("one", 1), ("one", 1), ("other", 2)):
        measured.clear()
        choose_row_limits(config, networks, replace(capabilities, revision=revision))
        assert len(list(tmp_path.glob("rows-*.json"))) == num_files
    assert measured


def test_without_a_folder_nothing_is_kept(
    networks: Networks, capabilities: Capabilities, measured: list[tuple[BatchKey, int]], tmp_path: Path
) -> None:
    for _ in range(2):
        measured.clear()
        choose_row_limits(CONFIG, networks, capabilities)
        assert measured


@pytest.mark.usefixtures("without_home_folder")
def test_without_home_folder_every_start_measures_and_logs_why(
    networks: Networks,
    capabilities: Capabilities,
    measured: list[tuple[BatchKey, int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(2):
        measured.clear()
        limits = choose_row_limits(replace(CONFIG, profile_folder="~/.cache/rows"), networks, capabilities)
        assert measured
        assert limits.max_rows(BatchKey(128, 128)) == 4
    assert "no home folder" in caplog.text
    assert "SDXL_PROFILE_FOLDER" in caplog.text


def test_configured_row_limit_is_not_measured(
    networks: Networks, capabilities: Capabilities, measured: list[tuple[BatchKey, int]]
) -> None:
    limits = choose_row_limits(replace(CONFIG, max_rows=3), networks, capabilities)
    assert [limits.max_rows(BatchKey(*size)) for size in capabilities.sizes] == [3] * len(capabilities.sizes)
    assert measured == []


def test_pass_can_be_timed(networks: Networks, capabilities: Capabilities) -> None:
    assert pass_timer(networks, capabilities)(BatchKey(96, 96), 2) > 0


def test_row_counts_that_run_out_of_memory_are_skipped(
    networks: Networks, capabilities: Capabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(_: BatchKey, num_rows: int) -> float:
        if num_rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.1

    monkeypatch.setattr(row_profiler, "pass_timer", lambda *_: measure)
    assert choose_row_limits(CONFIG, networks, capabilities).max_rows(BatchKey(128, 128)) == 2
