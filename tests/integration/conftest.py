# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's load generator, for the tests that drive it."""

from support.perf_analyzer import perf_analyzer as perf_analyzer
