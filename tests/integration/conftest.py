# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's load generator, for the tests that drive it."""

from perf_binary import perf_analyzer as perf_analyzer
