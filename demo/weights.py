# SPDX-License-Identifier: Apache-2.0
"""Writes safetensors files with the usual permissions and errors.

`safetensors.torch.save_file` makes files that only their owner can read, and reports a full disk as its own error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors.torch import save

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch


def write_weights(tensors: Mapping[str, torch.Tensor], path: Path, **metadata: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a copied file may keep other permissions
    path.write_bytes(save(dict(tensors), metadata={"format": "pt", **metadata}))
