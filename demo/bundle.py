# SPDX-License-Identifier: Apache-2.0
"""All networks of a checkpoint: new or loaded from a folder, and saved in diffusers' format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from demo.networks import build_controlnet, build_scheduler, build_text_encoders, build_unet

if TYPE_CHECKING:
    from pathlib import Path

TRAINED = ("text_encoder", "text_encoder_2", "unet", "controlnet")  # with diffusers' names


@dataclass(slots=True)
class Bundle:
    tokenizer: CLIPTokenizer
    scheduler: EulerDiscreteScheduler
    text_encoder: CLIPTextModel
    text_encoder_2: CLIPTextModelWithProjection
    unet: UNet2DConditionModel
    controlnet: ControlNetModel

    def trained(self) -> nn.ModuleDict:
        """The networks that are trained together, by name."""
        return nn.ModuleDict({name: getattr(self, name) for name in TRAINED})


def start(tokenizer: CLIPTokenizer) -> Bundle:
    unet = build_unet()
    return Bundle(tokenizer, build_scheduler(), *build_text_encoders(tokenizer), unet, build_controlnet(unet))


def load(folder: Path) -> Bundle:
    """The networks of a checkpoint folder in fp32, for further training."""

    def part(kind: Any, name: str) -> Any:
        return kind.from_pretrained(folder / name, torch_dtype=torch.float32)

    return Bundle(
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        EulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        part(CLIPTextModel, "text_encoder"),
        part(CLIPTextModelWithProjection, "text_encoder_2"),
        part(UNet2DConditionModel, "unet"),
        part(ControlNetModel, "controlnet"),
    )


def load_vae(folder: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).eval()


def pipeline(bundle: Bundle, vae: AutoencoderKL) -> StableDiffusionXLControlNetPipeline:
    pipe = StableDiffusionXLControlNetPipeline(
        vae=vae,
        text_encoder=bundle.text_encoder,
        text_encoder_2=bundle.text_encoder_2,
        tokenizer=bundle.tokenizer,
        tokenizer_2=bundle.tokenizer,
        unet=bundle.unet,
        controlnet=bundle.controlnet,
        scheduler=bundle.scheduler,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save(bundle: Bundle, vae: AutoencoderKL, folder: Path, *, serving: dict[str, Any]) -> None:
    """Write fp16 safetensors, and `serving.json` with a server's defaults."""
    try:
        pipeline(bundle, vae).to(torch.float16).save_pretrained(folder, safe_serialization=True)
    except SafetensorError as error:  # a full disk, for example
        raise OSError(str(error)) from error
    for path in folder.glob("*/*.safetensors"):
        path.chmod(0o644)  # safetensors leaves them to their owner
    for path in folder.glob("*/config.json"):  # removes the path that the weights were loaded from
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "serving.json").write_text(json.dumps(serving, indent=2) + "\n")
