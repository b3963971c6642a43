# SPDX-License-Identifier: Apache-2.0
"""Which weights are loaded, as a short hash: the same name may stand for other weights tomorrow."""

import hashlib
from typing import Any

import torch

# Weights differ nearly everywhere or nowhere, so some of every tensor tell; all of 7 GB would take half a minute.
NUM_SAMPLES = 64


def revision_of(pipeline: Any) -> str:
    """16 hex digits over the names, shapes, dtypes and sampled values of every tensor, wherever they came from."""
    digest = hashlib.sha256()
    for part, module in sorted(pipeline.components.items()):
        if not isinstance(module, torch.nn.Module):
            continue
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            values = tensor.reshape(-1)
            samples = values[:: max(1, values.numel() // NUM_SAMPLES)][:NUM_SAMPLES].contiguous().cpu()
            digest.update(samples.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
