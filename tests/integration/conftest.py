# SPDX-License-Identifier: Apache-2.0
"""Fixtures: NVIDIA's perf_analyzer and a browser."""

from support.chromium import chromium as chromium
from support.perf_analyzer import perf_analyzer as perf_analyzer
