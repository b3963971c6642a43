# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's load generator and a browser, for the tests that drive them."""

from support.chromium import chromium as chromium
from support.perf_analyzer import perf_analyzer as perf_analyzer
