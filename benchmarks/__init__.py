# SPDX-License-Identifier: Apache-2.0
"""Side-by-side runs against real peers. Results, with machine and versions, lie in `results/`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION_FOLDER = ROOT / "models" / "sdxl_scribble_controlnet_stream" / "1"
RESULTS = ROOT / "benchmarks" / "results"

# The engine lies beside its model.py, in a model repository, and is not installed.
if str(VERSION_FOLDER) not in sys.path:
    sys.path.insert(0, str(VERSION_FOLDER))
