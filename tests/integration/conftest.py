# SPDX-License-Identifier: Apache-2.0
"""Fixtures: NVIDIA's perf_analyzer and a browser."""

from support.aiperf import aiperf_program as aiperf_program
from support.chromium import chromium as chromium
from support.perf_analyzer import perf_analyzer as perf_analyzer
