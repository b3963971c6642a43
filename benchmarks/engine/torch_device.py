# SPDX-License-Identifier: Apache-2.0
"""The device and library versions of an engine measurement: a name for files, and a description."""

import os
import platform

import diffusers
import torch

from benchmarks.common.machine import commit, cpu_name, cpu_slug, cpuinfo
from benchmarks.common.machine import slug as slug_of

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def slug(device: torch.device) -> str:
    """The device's name in the form of a file name."""
    return slug_of(device_name(device)) if device.type == "cuda" else cpu_slug()


def describe(device: torch.device) -> str:
    where = device_name(device)
    if device.type == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        bfloat16 = "with" if computes_in_bfloat16() else "without"
        where += f", {os.cpu_count()} cores, {capability}, {bfloat16} bfloat16 instructions"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, diffusers {diffusers.__version__}"
    return f"{where}; {versions}; commit {commit()}"


def computes_in_bfloat16() -> bool:
    """Whether the processor has bfloat16. Without it, torch's bfloat16 convolutions are a hundred times slower."""
    flags = {flag for line in cpuinfo() if line.startswith(("flags", "Features")) for flag in line.split()}
    return bool(BFLOAT16_FLAGS & flags)
