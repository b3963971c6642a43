# SPDX-License-Identifier: Apache-2.0
"""Turns a scribble and a prompt into a picture. Knows nothing of Triton or of HTTP; `model.py` joins it to Triton."""

import os

# Waiting OpenMP threads sleep instead of spinning. Where other processes share the cores, spinning makes a picture
# ten times slower. OpenMP reads this once, when torch is imported, so it stands before every module that does.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
