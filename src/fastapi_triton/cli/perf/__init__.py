# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton perf`: measures with NVIDIA's tools. perf_analyzer: a model through the frontend, and without it.
aiperf: one endpoint.

| module | purpose |
| --- | --- |
| `command` | the options, and the order of measurements |
| `input_data` | converts JSON requests to perf_analyzer's input |
| `analyzer` | finds, installs and runs perf_analyzer |
| `aiperf` | finds, installs and runs aiperf |
| `endpoint_records` | converts JSON requests to aiperf's records |
| `tool` | where the tools are installed, their errors and measurements |
| `comparison` | writes the results as table, JSON and plot |
"""
