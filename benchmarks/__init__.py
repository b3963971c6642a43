# SPDX-License-Identifier: Apache-2.0
"""Benchmarks, most of them against real alternatives in the same run. README.md is the index of this folder."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION_FOLDER = ROOT / "models" / "sdxl_scribble_controlnet_stream" / "1"
RESULTS = ROOT / "benchmarks" / "results"

# The engine is in the model repository, next to its model.py, and is not an installed package.
if str(VERSION_FOLDER) not in sys.path:
    sys.path.insert(0, str(VERSION_FOLDER))
