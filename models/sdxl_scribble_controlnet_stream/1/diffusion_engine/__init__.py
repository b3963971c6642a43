# SPDX-License-Identifier: Apache-2.0
"""Makes pictures from scribbles and prompts. Imports neither Triton nor HTTP; `model.py` connects it to Triton."""

import os

# Waiting OpenMP threads sleep instead of spinning. If other processes share the cores, spinning makes a picture ten
# times slower. OpenMP reads this once, when torch is imported, so this runs before all modules that import torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The rows of a pass change all the time. With this, torch's allocator enlarges its GPU memory where it is, instead of
# leaving gaps between pieces of old sizes. torch reads the older name only if the newer one is not set.
if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

# Its warnings at import are about features that the engine does not use.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
