# SPDX-License-Identifier: Apache-2.0
"""The setting of torch's allocator for GPU memory, which torch reads once."""

import os
import subprocess
import sys

import pytest
from drawings import VERSION_FOLDER

PROGRAM = "import os, diffusion_engine; print(os.environ.get('PYTORCH_ALLOC_CONF'))"


@pytest.mark.parametrize(
    ("operators", "expected"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"}, "backend:cudaMallocAsync"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:512"}, "None"),  # torch prefers the newer name
    ],
)
def test_segments_are_expandable_unless_the_operator_configures_the_allocator(
    operators: dict[str, str], expected: str
) -> None:
    inherited = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name}
    environment = {**inherited, "PYTHONPATH": str(VERSION_FOLDER), **operators}
    shown = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == expected
