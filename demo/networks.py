# SPDX-License-Identifier: Apache-2.0
"""The networks: small configurations of diffusers' and transformers' own classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL, ControlNetModel, EulerDiscreteScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

TEXT_WIDTH, TEXT_LAYERS = 64, 3
TIME_WIDTH = 16
TOKENS = 77
LATENT_CHANNELS = 4
VAE_CHANNELS = (16, 32, 64)
UNET_CHANNELS = (32, 64, 128, 128)
HEADS = (2, 4, 4, 4)
CONTROL_CHANNELS = (8, 16, 32)  # one more than the halvings of the size, as in the VAE
VAE_SCALE = 2 ** (len(VAE_CHANNELS) - 1)  # pixels of a latent cell's side


def build_vae() -> AutoencoderKL:
    vae = AutoencoderKL(
        block_out_channels=VAE_CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * len(VAE_CHANNELS),
        up_block_types=("UpDecoderBlock2D",) * len(VAE_CHANNELS),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=256,
        mid_block_add_attention=False,
        force_upcast=False,
        scaling_factor=1.0,
    )
    start_near_identity(vae)
    return vae


@torch.no_grad()
def start_near_identity(vae: AutoencoderKL) -> None:
    """Start the VAE with pass-through colours, which gains ten decibels after a hundred steps."""
    for module in vae.modules():
        name = type(module).__name__
        if name == "ResnetBlock2D":
            module.conv2.weight.mul_(0.15)
            if module.conv_shortcut is not None:
                pass_through(module.conv_shortcut)
        elif name in ("Downsample2D", "Upsample2D"):
            pass_through(module.conv)
    log_variance = vae.quant_conv.bias[vae.config.latent_channels :]
    vae.quant_conv.weight[vae.config.latent_channels :].mul_(0.01)
    log_variance.fill_(-5.0)


def pass_through(conv: nn.Conv2d) -> None:
    """Connect channel i to channel i (repeating if there are more outputs), averaged over the stride."""
    out_channels, in_channels, height, width = conv.weight.shape
    conv.weight.mul_(0.1)
    taps = [(0, 0), (0, 1), (1, 0), (1, 1)] if conv.stride[0] == 2 else [(height // 2, width // 2)]
    for index in range(max(out_channels, in_channels)):
        for y, x in taps:
            share = min(1.0, out_channels / in_channels) / len(taps)
            conv.weight[index % out_channels, index % in_channels, y, x] += share


def build_text_encoders(tokenizer: CLIPTokenizer) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,  # CLIP's default of 2 would pool the wrong token
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config), CLIPTextModelWithProjection(config)


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=UNET_CHANNELS,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * (len(UNET_CHANNELS) - 1)),
        up_block_types=(*["CrossAttnUpBlock2D"] * (len(UNET_CHANNELS) - 1), "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=HEADS,  # diffusers reads this as the number of heads
        cross_attention_dim=2 * TEXT_WIDTH,
        use_linear_projection=True,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=6 * TIME_WIDTH + TEXT_WIDTH,
    )


def build_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=CONTROL_CHANNELS)
    # Zero convolutions protect a trained UNet. Here nothing is trained yet, so zeros would only delay the start.
    zeroed = [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]
    for conv in [*zeroed, controlnet.controlnet_cond_embedding.conv_out]:
        nn.init.xavier_uniform_(conv.weight, gain=0.3)
    return controlnet


def build_scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.022,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
