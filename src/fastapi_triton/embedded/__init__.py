# SPDX-License-Identifier: Apache-2.0
"""Runs Triton in a child process: checks the machine, starts, watches and restarts it. Knows neither HTTP nor the app.

| module | purpose |
| --- | --- |
| `triton_process` | runs Triton; the app needs only its URL |
| `guard` | a small process between the two that ends Triton whenever the frontend ends, even if it is killed |
| `processes`, `stub_monitor` | ends the processes that a killed guard leaves behind; detects dead stub processes |
| `triton_log` | forwards Triton's log, and finds in it why Triton ended |
| `installation`, `preflight` | finds the wheel's files; checks whether this machine can run them, and how to fix it |
| `s3_repository` | downloads a model repository from S3 |
"""
