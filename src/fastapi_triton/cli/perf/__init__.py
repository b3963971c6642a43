# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton perf`: the cost of the frontend, measured with NVIDIA's perf_analyzer.

| module | its one job |
| --- | --- |
| `command` | the options, and the order of measurements |
| `input_data` | JSON requests → perf_analyzer's input |
| `analyzer` | finds, installs and runs perf_analyzer |
| `comparison` | table, JSON and plot of the results |
"""
