# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton perf`: measures the cost of the frontend with NVIDIA's perf_analyzer.

| module | purpose |
| --- | --- |
| `command` | the options, and the order of measurements |
| `input_data` | converts JSON requests to perf_analyzer's input |
| `analyzer` | finds, installs and runs perf_analyzer |
| `comparison` | writes the results as table, JSON and plot |
"""
