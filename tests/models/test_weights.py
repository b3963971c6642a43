# SPDX-License-Identifier: Apache-2.0
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusion_engine import weights
from diffusion_engine.config import EngineConfig
from drawings import CHECKPOINT


def parameter_dtypes(pipeline: Any) -> set[torch.dtype]:
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    assert len(networks) == 5
    return {parameter.dtype for network in networks for parameter in network.parameters()}


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("auto", torch.float32), ("float32", torch.float32), ("float16", torch.float16), ("bfloat16", torch.bfloat16)],
)
def test_every_network_has_the_configured_dtype(dtype: str, expected: torch.dtype) -> None:
    config = EngineConfig(checkpoint=str(CHECKPOINT), device="cpu", dtype=dtype)
    assert parameter_dtypes(weights.load_pipeline(config)) == {expected}


def test_base_controlnet_and_vae_may_come_from_different_folders(tmp_path: Path) -> None:
    base, controlnet, vae = tmp_path / "base", tmp_path / "controlnet", tmp_path / "vae"
    shutil.copytree(CHECKPOINT, base)
    shutil.move(base / "controlnet", controlnet)
    shutil.copytree(CHECKPOINT / "vae", vae)
    index = base / "model_index.json"
    without = [line for line in index.read_text().splitlines() if "ontrolNetModel" not in line]
    text = "\n".join(without).replace('"controlnet": [\n    "diffusers",\n  ],\n', "")
    index.write_text(text.replace("StableDiffusionXLControlNetPipeline", "StableDiffusionXLPipeline"))
    assert '"controlnet"' not in index.read_text()

    config = EngineConfig(checkpoint=str(base), controlnet=str(controlnet), vae=str(vae), device="cpu")
    assert parameter_dtypes(weights.load_pipeline(config)) == {torch.float32}
    with pytest.raises(ValueError, match="SDXL_CONTROLNET"):
        weights.load_pipeline(EngineConfig(checkpoint=str(base), device="cpu"))


def test_fp16_variant_on_the_hub_is_tried_before_the_plain_files() -> None:
    variants: list[str | None] = []

    class Network:
        @classmethod
        def from_pretrained(cls, source: str, **options: Any) -> str:
            assert options["use_safetensors"] is True
            variants.append(options.get("variant"))
            if options.get("variant"):
                raise OSError("no such variant")
            return source

    assert weights.load_part(Network, "owner/model", torch.float16) == "owner/model"
    assert variants == ["fp16", None]
    variants.clear()
    weights.load_part(Network, "owner/model", torch.float32)
    weights.load_part(Network, str(CHECKPOINT), torch.float16)
    assert variants == [None, None]


def test_device_is_the_instances_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert weights.choose_device("auto", gpu_index=1) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert weights.choose_device("auto", gpu_index=1) == torch.device("cuda", 1)
    assert weights.choose_device("auto") == torch.device("cuda", 0)
    assert weights.choose_device("cuda", gpu_index=1) == torch.device("cuda", 1)
    assert weights.choose_device("cpu", gpu_index=1) == torch.device("cpu")
    assert weights.choose_dtype("auto", torch.device("cuda", 1)) == torch.float16
