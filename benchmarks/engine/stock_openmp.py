# SPDX-License-Identifier: Apache-2.0
"""Import this before torch to measure the stock pipeline with OpenMP's default settings, as users of diffusers run it.

The engine lets waiting OpenMP threads spin for a moment only, because they share cores with other processes. On an
otherwise idle machine that costs the stock pipeline up to a fifth, so this module undoes it. The engines' processes do
not import it.
"""

import multiprocessing
import os

import diffusion_engine  # noqa: F401

if multiprocessing.parent_process() is None:  # not in a child process that imports the main module again
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        os.environ.pop(name, None)
