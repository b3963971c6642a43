# SPDX-License-Identifier: Apache-2.0
"""Imports all parts, in the process that those of the parts are forked from."""

import importlib
from contextlib import suppress

from benchmarks.gpu_kit.part import PARTS

for part in PARTS:
    with suppress(Exception):  # the part's own process imports it again, and reports the error
        importlib.import_module(part.module)
