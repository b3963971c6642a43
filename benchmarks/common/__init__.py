# SPDX-License-Identifier: Apache-2.0
"""Shared by the benchmarks: the machine's description, CPU time of processes, load generator, ratios and bar chart."""
