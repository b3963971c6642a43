# SPDX-License-Identifier: Apache-2.0
"""The adapters of an engine: their files, and those that are loaded."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import hf_hub_download, snapshot_download

from diffusion_engine.capabilities import KnownLoRA
from diffusion_engine.config import EngineConfig
from diffusion_engine.errors import RequestError
from diffusion_engine.loras.adapter import Adapter, AdapterCache
from diffusion_engine.loras.batch import ScaledAdapters
from diffusion_engine.loras.files import LoRAFile, UnusableLoRAError, examine, load
from diffusion_engine.loras.layout import Layout
from diffusion_engine.request import LoRA
from diffusion_engine.request_state import UsedLoRA

logger = logging.getLogger(__name__)

# The name of diffusers' own files. Such an adapter has the name of its folder or hub repository.
GENERIC_NAME = "pytorch_lora_weights"


class LoRALibrary:
    """Loads the adapters that requests name. From any thread.

    Args:
        files: from `examine`. Only these can be named.
        max_bytes: the size of the loaded adapters that are kept.
    """

    def __init__(self, files: list[LoRAFile], pipeline: Any, device: torch.device, *, max_bytes: int) -> None:
        self._pipeline = pipeline
        self._device = device
        self.max_bytes = max_bytes
        self._sha256: dict[str, str] = {}  # of each file that was loaded, by name
        self._cache = AdapterCache(self._load, max_bytes=max_bytes)
        self.layout = Layout.of(pipeline.unet, (layer for file in files for layer in file.layers))
        files = [self._fitting(file) for file in files]
        self._files = {file.name: file for file in files}
        self.known = tuple(
            KnownLoRA(name=file.name, trigger_words=file.trigger_words, unusable=file.unusable)
            for file in sorted(files, key=lambda file: file.name)
        )

    @classmethod
    def of_config(cls, config: EngineConfig, pipeline: Any, device: torch.device) -> Self:
        """The files beside the checkpoint, and those of the parameter `loras`."""
        paths = lora_paths(config)
        return cls(
            [examine(name, path, pipeline) for name, path in paths.items()],
            pipeline,
            device,
            max_bytes=config.lora_memory_mb * 2**20,
        )

    def adapters(self, loras: tuple[LoRA, ...]) -> ScaledAdapters:
        """The adapters of a request, loaded. Those with a scale of 0 change nothing, and are omitted.

        Raises:
            RequestError: a file cannot be used.
        """
        return tuple((self._cache.get(lora.name), lora.scale) for lora in loras if lora.scale)

    def without_effect(self) -> list[ScaledAdapters]:
        """Adapters that change nothing, of each kind that the files have. For passes that warm up."""
        layout = self.layout
        widths = {layout.widths(file.layers) for file in self._files.values() if not file.unusable}
        to: dict[str, Any] = {"device": self._device, "dtype": self._pipeline.unet.dtype}
        return [
            (
                (
                    Adapter(
                        sha256="",
                        down=torch.zeros(1, num_inputs, **to),
                        up=torch.zeros(1, num_outputs, **to),
                        has_convolutions=num_inputs > layout.num_linear_inputs,
                        text=({}, {}),
                    ),
                    1.0,
                ),
            )
            for num_inputs, num_outputs in sorted(widths)
            if num_inputs
        ]

    def _fitting(self, file: LoRAFile) -> LoRAFile:
        """The file, with the reason if its adapter is too large to be kept: one layer of a high rank suffices."""
        num_bytes = file.rank * sum(self.layout.widths(file.layers)) * self._pipeline.unet.dtype.itemsize
        if file.unusable or num_bytes <= self.max_bytes:
            return file
        needed, most = math.ceil(num_bytes / 2**20), self.max_bytes // 2**20
        reason = f"With rank {file.rank} it takes {needed} MB; `lora_memory_mb` is {most}."
        logger.warning("the LoRA %s cannot be used: %s", file.path, reason)
        return replace(file, unusable=reason)

    def prepare(self, loras: tuple[LoRA, ...]) -> tuple[UsedLoRA, ...]:
        """Load the adapters of a request before it runs, so that no pass waits for the disk."""
        used, num_bytes = [], 0
        for lora in loras:
            adapter = self._cache.get(lora.name)
            num_bytes += adapter.num_bytes
            if num_bytes > self.max_bytes:
                detail = f"`loras` has adapters of more than {self.max_bytes // 2**20} MB together. Send fewer."
                raise RequestError("out_of_range", detail, field="loras")
            changes_texts = adapter.changes_texts and lora.scale != 0
            used.append(
                UsedLoRA(
                    name=lora.name,
                    scale=lora.scale,
                    sha256=adapter.sha256,
                    changes_texts=changes_texts,
                    num_bytes=adapter.num_bytes,
                )
            )
        return tuple(used)

    def _load(self, name: str) -> Adapter:
        try:
            adapter = load(self._files[name], self._pipeline, self.layout, self._device)
            # Requests, receipts and cached texts rely on it.
            if self._sha256.setdefault(name, adapter.sha256) != adapter.sha256:
                raise UnusableLoRAError("It was replaced after it had been used. Restart the engine, or rename it.")
            return adapter
        except UnusableLoRAError as error:
            logger.warning("the LoRA %s cannot be used: %s", name, error)
            raise RequestError("unusable_lora", f"The LoRA {name} cannot be used. {error}", field="loras") from None


def lora_paths(config: EngineConfig) -> dict[str, Path]:
    """The files by name. Raises `ValueError` if two have the same name."""
    paths: dict[str, Path] = {}
    files = [file for source in config.loras for file in files_of(source)]
    checkpoint = Path(config.checkpoint)
    if checkpoint.exists():
        files += files_of(str((checkpoint if checkpoint.is_dir() else checkpoint.parent).absolute() / "loras"))
    for path in dict.fromkeys(files):
        name = path.stem if path.stem != GENERIC_NAME else path.parent.name
        if name in paths:
            raise ValueError(f"two LoRAs are named {name}: {paths[name]} and {path}; rename one")
        paths[name] = path
    return paths


def files_of(source: str) -> list[Path]:
    """The files of a folder, of a hub repository, or the one of `owner/repository/file.safetensors`."""
    folder = Path(source)
    if folder.is_dir() or folder.is_absolute():
        return sorted(folder.glob("*.safetensors"))
    owner, repository, *rest = source.split("/", 2)
    if rest:
        return [Path(hf_hub_download(f"{owner}/{repository}", rest[0]))]
    snapshot = Path(snapshot_download(source, allow_patterns="*.safetensors"))
    return sorted(snapshot.glob("*.safetensors"))
