# SPDX-License-Identifier: Apache-2.0
"""Import this before torch to measure the stock pipeline with OpenMP's default settings, as users of diffusers have it.

The engine makes waiting OpenMP threads sleep, since they share cores with other processes. That costs the stock
pipeline a fifth when nothing else runs, so it is taken back here. Engines have processes that do not import this.
"""

import multiprocessing
import os

import diffusion_engine  # noqa: F401

if multiprocessing.parent_process() is None:  # and not where a process of ours imports the main module again
    os.environ.pop("OMP_WAIT_POLICY", None)
