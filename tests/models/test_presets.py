# SPDX-License-Identifier: Apache-2.0
"""Presets set fields that a request omits."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from diffusion_engine.capabilities import Capabilities, KnownLoRA
from diffusion_engine.config import EngineConfig
from diffusion_engine.engine_builder import check_presets
from diffusion_engine.errors import RequestError
from diffusion_engine.loras.library import lora_paths
from diffusion_engine.request_parser import parse_request
from drawings import CHECKPOINT
from listening import Driver

PRESETS = {
    "draft": {"num_inference_steps": 3, "guidance_scale": 1.0, "scheduler": "tcd", "eta": 0.5},
    "fast": {"num_inference_steps": 4, "scheduler": "euler", "timestep_spacing": "leading", "cache": 0.5},
}


@pytest.fixture
def prepared(capabilities: Capabilities) -> Capabilities:
    return replace(capabilities, presets=PRESETS)


def test_preset_sets_the_fields_that_a_request_omits(prepared: Capabilities) -> None:
    draft = parse_request({"preset": b" draft "}, prepared)
    assert (draft.preset, draft.num_inference_steps, draft.guidance_scale) == ("draft", 3, 1.0)
    assert (draft.scheduler, draft.eta, draft.timestep_spacing) == ("tcd", 0.5, None)
    fast = parse_request({"preset": b"fast", "num_inference_steps": 7, "guidance_scale": 4.0}, prepared)
    assert (fast.num_inference_steps, fast.guidance_scale, fast.timestep_spacing) == (7, 4.0, "leading")
    assert fast.cache == 0.5
    assert parse_request({"preset": b""}, prepared).num_inference_steps == 6


def test_another_scheduler_takes_only_what_it_has(prepared: Capabilities) -> None:
    assert parse_request({"preset": b"draft", "scheduler": b"euler"}, prepared).eta is None
    assert parse_request({"preset": b"draft", "scheduler": b"DDIM"}, prepared).eta == 0.5
    lcm = parse_request({"preset": b"fast", "scheduler": b"lcm"}, prepared)
    assert (lcm.timestep_spacing, lcm.cache) == (None, 0.0)
    with pytest.raises(RequestError, match="`eta` has no effect"):
        parse_request({"preset": b"draft", "scheduler": b"euler", "eta": 0.5}, prepared)


def test_loras_of_a_request_are_added_to_those_of_the_preset(prepared: Capabilities) -> None:
    few_steps, style = KnownLoRA(name="few_steps"), KnownLoRA(name="style")
    presets = {"fast": {"loras": [{"name": "few_steps", "scale": 0.9}]}}
    with_loras = replace(prepared, loras=(few_steps, style), presets=presets)

    def scales(loras: bytes | None) -> dict[str, float]:
        request = parse_request({"preset": b"fast", "loras": loras}, with_loras)
        return {lora.name: lora.scale for lora in request.loras}

    assert scales(None) == scales(b"[]") == {"few_steps": 0.9}
    assert scales(b'[{"name": "style", "scale": 0.5}]') == {"few_steps": 0.9, "style": 0.5}
    assert scales(b'[{"name": "few_steps", "scale": 0.5}]') == {"few_steps": 0.5}
    for invalid in (b"{", b"[" * 5000, b'{"name": "style"}', b'[{"name": []}]', b"[1]"):
        with pytest.raises(RequestError, match="`loras`"):
            scales(invalid)


@pytest.mark.parametrize(
    ("name", "presets", "words"),
    [
        (b"drft", PRESETS, r"'drft' \(did you mean draft\?\); it must be one of draft, fast"),
        (b"draft", {}, "this checkpoint has no presets"),
    ],
)
def test_unknown_preset_is_rejected_with_the_nearest_name(
    prepared: Capabilities, name: bytes, presets: dict[str, Any], words: str
) -> None:
    with pytest.raises(RequestError, match=words) as rejection:
        parse_request({"preset": name}, replace(prepared, presets=presets))
    assert (rejection.value.code, rejection.value.field) == ("unknown_preset", "preset")


@pytest.mark.parametrize(
    ("presets", "words"),
    [
        ([], "must be objects by name"),
        ({"fast": 4}, "must be objects by name"),
        ({"fast": {"num_inference_step": 4}}, r"'num_inference_step' \(did you mean num_inference_steps\?\)"),
        ({"fast": {"prompt": "a house"}}, "'prompt'; it may have num_inference_steps"),
        ({"fast": {"num_inference_steps": "4"}}, "'4' as num_inference_steps; its type must be int"),
        ({"fast": {"eta": True}}, "its type must be float"),
        ({"fast": {"num_inference_steps": 400}}, "preset 'fast': `num_inference_steps` is 400"),
        ({"fast": {"scheduler": "eulr"}}, r"preset 'fast': `scheduler` is 'eulr' \(did you mean euler\?\)"),
        ({"fast": {"scheduler": "lcm", "num_inference_steps": 60}}, "with the scheduler lcm"),
        ({"fast": {"loras": [{"name": "few_steps"}]}}, "preset 'fast': `loras` names 'few_steps'"),
        ({"fast": {"scheduler": "heun", "cache": 0.5}}, "preset 'fast': `cache` is 0.5"),
        ({"fast": {"loras": [1]}}, "preset 'fast': `loras` has the item 1"),
    ],
)
def test_checkpoint_with_an_invalid_preset_does_not_load(tmp_path: Path, presets: Any, words: str) -> None:
    content = {"name": "x", "sizes": [[1024, 1024]], "presets": presets}
    (tmp_path / "serving.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        check_presets(Capabilities.of_checkpoint(str(tmp_path)))


def test_operator_adds_presets_to_those_of_the_checkpoint(tmp_path: Path) -> None:
    content = {"name": "x", "sizes": [[1024, 1024]], "presets": {"draft": {}, "fast": {}}}
    (tmp_path / "serving.json").write_text(json.dumps(content))
    capabilities = Capabilities.of_checkpoint(str(tmp_path), presets={"fast": {"guidance_scale": 1.0}, "best": {}})
    assert capabilities.describe()["presets"] == {"draft": {}, "fast": {"guidance_scale": 1.0}, "best": {}}


def test_demo_checkpoint_has_valid_presets() -> None:
    loras = tuple(KnownLoRA(name=name) for name in lora_paths(EngineConfig(checkpoint=str(CHECKPOINT))))
    capabilities = replace(Capabilities.of_checkpoint(str(CHECKPOINT)), loras=loras)
    assert set(capabilities.presets) == {"draft", "fast", "quality"}
    check_presets(capabilities)


def test_receipt_has_the_preset_and_the_values_that_were_used(
    prepared: Capabilities, make_driver: Callable[..., Driver]
) -> None:
    driver = make_driver(capabilities=prepared)
    with_preset = driver.join(preset=b"draft", num_inference_steps=2, width=96, height=96)
    without = driver.join(num_inference_steps=2, guidance_scale=1.0, scheduler=b"tcd", eta=0.5, width=96, height=96)
    driver.finish()
    info = with_preset.recorder.picture().info
    used = {name: info[name] for name in ("preset", "num_inference_steps", "guidance_scale", "scheduler", "eta")}
    assert used == {"preset": "draft", "num_inference_steps": 2, "guidance_scale": 1.0, "scheduler": "tcd", "eta": 0.5}
    assert (with_preset.pixels() == without.pixels()).all()
    assert "preset" not in without.recorder.picture().info
