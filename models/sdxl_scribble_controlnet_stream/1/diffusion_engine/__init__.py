# SPDX-License-Identifier: Apache-2.0
"""Makes pictures from scribbles and prompts. Imports neither Triton nor HTTP; `model.py` connects it to Triton."""

import os

# Waiting OpenMP threads spin for a moment, and then sleep. Small passes need the moment: falling asleep and waking up
# after each layer makes them two to three times slower. But if other processes share the cores, spinning as long as
# OpenMP does by itself makes a picture ten times slower. OpenMP reads these once, when torch is imported, so this runs
# before all modules that import torch. See `cpu_parallel.use_cores`, too.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# The rows of a pass change all the time. With this, torch's allocator enlarges its GPU memory where it is, instead of
# leaving gaps between pieces of old sizes. torch reads the older name only if the newer one is not set.
if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

# Its warnings at import are about features that the engine does not use.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
