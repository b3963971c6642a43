# SPDX-License-Identifier: Apache-2.0
"""What a figure was measured on: a name for files, and a sentence for readers."""

import os
import platform
import re
import subprocess
from pathlib import Path

import diffusers
import torch

from benchmarks import ROOT

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def slug(device: torch.device) -> str:
    """For file names."""
    cores = "" if device.type == "cuda" else f"-{os.cpu_count()}-cores"
    return re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-") + cores


def describe(device: torch.device) -> str:
    where = device_name(device)
    if device.type == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        bfloat16 = "with" if computes_in_bfloat16() else "without"
        where += f", {os.cpu_count()} cores, {capability}, {bfloat16} bfloat16 instructions"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, diffusers {diffusers.__version__}"
    return f"{where}; {versions}; commit {commit()}"


def computes_in_bfloat16() -> bool:
    """Without one of these, torch's bfloat16 convolutions are a hundred times slower than float32."""
    flags = {flag for line in _cpuinfo() if line.startswith(("flags", "Features")) for flag in line.split()}
    return bool(BFLOAT16_FLAGS & flags)


def commit() -> str:
    found = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.is_file() else []
