# SPDX-License-Identifier: Apache-2.0
"""Small SDXL checkpoints with random weights, and their conversion to one file in SDXL's original layout."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.engine.random_weights import make_pipeline, tiny_architecture

Weights = dict[str, torch.Tensor]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
EMBEDDINGS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPENCLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def small_pipeline() -> Any:
    """The text encoders have different widths, as SDXL's have: by them diffusers distinguishes the two."""
    architecture = tiny_architecture()
    tokens = {"vocab_size": 1325, "bos_token_id": 1323, "eos_token_id": 2, "pad_token_id": 1}
    architecture["text_encoder"] |= tokens
    architecture["text_encoder_2"] |= tokens | {"hidden_size": 48, "projection_dim": 48, "num_attention_heads": 3}
    for name in ("unet", "controlnet"):
        architecture[name] |= {"cross_attention_dim": 80, "projection_class_embeddings_input_dim": 6 * 8 + 48}
    return make_pipeline(architecture=architecture, dtype=torch.float32)


def write_file(pipeline: Any, file: Path, **marks: torch.Tensor) -> None:
    """Write the checkpoint as one file, without the ControlNet. `marks` are further tensors."""
    weights = {f"model.diffusion_model.{name}": each for name, each in unet_weights(pipeline.unet).items()}
    weights |= {f"first_stage_model.{name}": each for name, each in vae_weights(pipeline.vae).items()}
    weights |= clip_weights(pipeline.text_encoder) | openclip_weights(pipeline.text_encoder_2)
    save_file({name: each.contiguous().clone() for name, each in (weights | marks).items()}, file)


def unet_weights(unet: Any) -> Weights:
    num_layers = unet.config.layers_per_block
    num_blocks = len(unet.config.block_out_channels)

    def block(match: re.Match[str]) -> str:
        side, index, part, layer = match[1], int(match[2]), match[3], int(match[4])
        if side == "down":
            number = 1 + index * (num_layers + 1) + (num_layers if part == "downsamplers" else layer)
            return f"input_blocks.{number}." + {"resnets": "0", "attentions": "1", "downsamplers": "0"}[part]
        number = index * (num_layers + 1) + (num_layers if part == "upsamplers" else layer)
        has_attention = "CrossAttn" in unet.config.up_block_types[index]
        upsampler = "2" if has_attention else "1"
        return f"output_blocks.{number}." + {"resnets": "0", "attentions": "1", "upsamplers": upsampler}[part]

    def original(name: str) -> str:
        for ours, theirs in EMBEDDINGS.items():
            if name.startswith(f"{ours}."):
                return name.replace(ours, theirs)
        is_resnet = "resnets" in name
        name = re.sub(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)", block, name)
        name = name.replace("mid_block.attentions.0", "middle_block.1")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"middle_block.{2 * int(match[1])}", name)
        if is_resnet:
            for ours, theirs in RESNET.items():
                name = name.replace(f".{ours}.", f".{theirs}.")
        return re.sub(r"(input_blocks\.\d+\.0)\.conv\.", r"\1.op.", name)

    assert num_blocks == 3
    return {original(name): weight for name, weight in unet.state_dict().items()}


def vae_weights(vae: Any) -> Weights:
    last = len(vae.config.block_out_channels) - 1

    def original(name: str) -> str:
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets", lambda match: f"up.{last - int(match[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda match: f"up.{last - int(match[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
        if "mid_block.attentions.0" in name:
            name = name.replace("mid_block.attentions.0", "mid.attn_1")
            for ours, theirs in VAE_ATTENTION.items():
                name = name.replace(f".{ours}.", f".{theirs}.")
        return name

    renamed = {original(name): weight for name, weight in vae.state_dict().items()}
    return {
        name: weight[:, :, None, None] if ".attn_1." in name and weight.ndim == 2 else weight
        for name, weight in renamed.items()
    }


def clip_weights(encoder: Any) -> Weights:
    start = "conditioner.embedders.0.transformer.text_model."
    return {start + name.removeprefix("text_model."): weight for name, weight in encoder.state_dict().items()}


def openclip_weights(encoder: Any) -> Weights:
    start = "conditioner.embedders.1.model."
    named = {name.removeprefix("text_model."): weight for name, weight in encoder.state_dict().items()}
    weights = {
        start + "positional_embedding": named["embeddings.position_embedding.weight"],
        start + "token_embedding.weight": named["embeddings.token_embedding.weight"],
        start + "text_projection": named["text_projection.weight"].T,
    }
    weights |= {f"{start}ln_final.{each}": named[f"final_layer_norm.{each}"] for each in ("weight", "bias")}
    for layer in range(encoder.config.num_hidden_layers):
        ours, theirs = f"encoder.layers.{layer}.", f"{start}transformer.resblocks.{layer}."
        for each in ("weight", "bias"):
            parts = [named[f"{ours}self_attn.{part}_proj.{each}"] for part in "qkv"]
            weights[f"{theirs}attn.in_proj_{each}"] = torch.cat(parts)
            weights |= {f"{theirs}{new}.{each}": named[f"{ours}{old}.{each}"] for old, new in OPENCLIP.items()}
    return weights
