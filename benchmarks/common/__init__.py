# SPDX-License-Identifier: Apache-2.0
"""Code that benchmarks share: description of the machine, CPU time of processes, load generator, ratios, bar chart."""
