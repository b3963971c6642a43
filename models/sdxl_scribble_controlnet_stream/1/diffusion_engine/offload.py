# SPDX-License-Identifier: Apache-2.0
"""Keeps the text encoders and the VAE on the CPU, and moves them to the GPU only while they run.

diffusers' model offloading does this for a pipeline, whose networks run one after another. The engine's run in any
order: requests join and leave between passes. So UNet and ControlNet stay on the GPU, and the others leave it before
the next pass. The hooks are those of accelerate, which diffusers calls in `encode` and `decode`, too.
"""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn

from diffusion_engine.networks import Networks


class Offload:
    """Moves guests: groups of networks of which at most one is on the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._guest: Sequence[nn.Module] = ()

    def admit(self, group: Sequence[nn.Module]) -> None:
        """Move this group to the device, and the group that is there to the CPU."""
        leaving, self._guest = self._guest, group
        with torch.inference_mode(mode=False):  # or the weights would become tensors that only inference can use
            if leaving is not group:
                for network in leaving:
                    network.to("cpu")
            for network in group:  # always: if memory ran out the last time, only a part of it is there
                network.to(self._device)


class AdmitFirst(ModelHook):  # type: ignore[misc]
    """Admits a network's group before the network runs."""

    def __init__(self, offload: Offload, group: Sequence[nn.Module]) -> None:
        self._offload = offload
        self._group = group

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        self._offload.admit(self._group)
        return args, kwargs


def offload_networks(networks: Networks) -> None:
    """Add the hooks to networks on the CPU. UNet and ControlNet move to the device now."""
    pipeline, offload = networks.pipeline, Offload(networks.device)
    networks.control_embedding.to(networks.device)
    for resident in (networks.unet, networks.controlnet):
        resident.to(networks.device)
        add_hook_to_module(resident, AdmitFirst(offload, ()))
    text_encoders, vae = [pipeline.text_encoder, pipeline.text_encoder_2], [networks.vae]
    for network in text_encoders:
        add_hook_to_module(network, AdmitFirst(offload, text_encoders))
    for network in (networks.vae, networks.tiled_vae):  # they share their weights
        add_hook_to_module(network, AdmitFirst(offload, vae))
