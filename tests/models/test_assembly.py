# SPDX-License-Identifier: Apache-2.0
"""How an engine is put together: what is measured at the start, what is configured, what is kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusion_engine import assembly
from diffusion_engine.assembly import assemble, pass_timer, row_limits
from diffusion_engine.capabilities import Capabilities
from diffusion_engine.config import EngineConfig
from diffusion_engine.generation import BatchKey
from diffusion_engine.networks import Networks
from diffusion_engine.tuning import use_channels_last
from diffusion_engine.weights import load_pipeline
from drawings import CHECKPOINT
from listening import Driver
from stock import StockPipeline

CONFIG = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu")
SMALL = {"width": 96, "height": 96}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[BatchKey, int]]:
    """What was measured, on a machine where 4 rows are best."""
    calls: list[tuple[BatchKey, int]] = []

    def measure(key: BatchKey, num_rows: int) -> float:
        calls.append((key, num_rows))
        return max(4, num_rows) * 0.01

    monkeypatch.setattr(assembly, "pass_timer", lambda *_: measure)
    return calls


def test_rows_are_measured_at_the_default_size_first_and_kept(
    networks: Networks, capabilities: Capabilities, measured: list[tuple[BatchKey, int]], tmp_path: Path
) -> None:
    config = replace(CONFIG, profile_folder=str(tmp_path / "cache"))
    limits = row_limits(config, networks, capabilities)
    assert measured[0][0] == BatchKey(128, 128)
    assert limits.max_rows(BatchKey(128, 128)) == 4
    assert len(list((tmp_path / "cache").glob("rows-*.json"))) == 1
    measured.clear()
    row_limits(config, networks, capabilities)
    assert measured == []


def test_without_a_folder_nothing_is_kept(
    networks: Networks, capabilities: Capabilities, measured: list[tuple[BatchKey, int]], tmp_path: Path
) -> None:
    for _ in range(2):
        measured.clear()
        row_limits(CONFIG, networks, capabilities)
        assert measured


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number: no HOME, and nobody of that number."""
    monkeypatch.delenv("HOME", raising=False)

    def nobody(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", nobody)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_rows_are_measured_at_every_start_and_the_log_says_so(
    networks: Networks,
    capabilities: Capabilities,
    measured: list[tuple[BatchKey, int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(2):
        measured.clear()
        limits = row_limits(replace(CONFIG, profile_folder="~/.cache/rows"), networks, capabilities)
        assert measured
        assert limits.max_rows(BatchKey(128, 128)) == 4
    assert "no home folder" in caplog.text
    assert "SDXL_PROFILE_FOLDER" in caplog.text


@pytest.mark.usefixtures("homeless")
def test_a_checkpoint_in_a_home_that_is_not_there_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'~/checkpoint' needs a home folder.*write the whole path"):
        EngineConfig.read({"checkpoint": "~/checkpoint"}, {}, version_folder=tmp_path)


def test_a_configured_number_of_rows_is_not_measured(
    networks: Networks, capabilities: Capabilities, measured: list[tuple[BatchKey, int]]
) -> None:
    limits = row_limits(replace(CONFIG, max_rows=3), networks, capabilities)
    assert [limits.max_rows(BatchKey(*size)) for size in capabilities.sizes] == [3] * len(capabilities.sizes)
    assert measured == []


def test_a_pass_can_be_timed(networks: Networks, capabilities: Capabilities) -> None:
    assert pass_timer(networks, capabilities)(BatchKey(96, 96), 2) > 0


def test_the_defaults_of_the_config_lie_over_the_checkpoints() -> None:
    engine = assemble(replace(CONFIG, max_rows=4, defaults={"num_inference_steps": 3}))
    defaults = engine.describe()["defaults"]
    own = Capabilities.of_checkpoint(str(CHECKPOINT)).defaults
    assert (defaults["num_inference_steps"], defaults["guidance_scale"]) == (3, own.guidance_scale)
    with pytest.raises(ValueError, match="unknown defaults"):
        Capabilities.of_checkpoint(str(CHECKPOINT), defaults={"steps": 3})


def test_another_memory_layout_does_not_show(make_driver: Callable[..., Driver], stock: StockPipeline) -> None:
    pipeline = load_pipeline(CONFIG)
    use_channels_last(pipeline)
    driver = make_driver(networks=Networks.of_pipeline(pipeline))
    values = [{**SMALL, "seed": seed, "conditioning_scale": scale} for seed, scale in ((1, 1.0), (2, 0.5))]
    visits = [driver.join(**each) for each in values]
    driver.finish()
    for each, visit in zip(values, visits, strict=True):
        assert np.abs(visit.pixels() - stock.pixels(**each)).max() <= 1


def test_what_is_made_once_is_made_before_the_first_caller_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = assemble(replace(CONFIG, max_rows=4))

    def fail(*_: object) -> None:
        raise AssertionError("traced for a caller")

    monkeypatch.setattr("diffusion_engine.traced.traced", fail)
    driver = Driver(engine)
    visits = [driver.join(**SMALL), driver.join(**SMALL, image=None, guidance_scale=1.0)]
    driver.finish()
    assert all(visit.picture() for visit in visits)
    driver.stop()
