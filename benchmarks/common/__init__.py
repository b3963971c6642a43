# SPDX-License-Identifier: Apache-2.0
"""Code that benchmarks share: the machine, CPU time of processes, load generator, measurement lock, ratios, chart."""
