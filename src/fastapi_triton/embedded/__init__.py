# SPDX-License-Identifier: Apache-2.0
"""A Triton in a process below this one: installed, started, watched, restarted. It must not know HTTP or the app.

| module | its one job |
| --- | --- |
| `triton_process` | the running Triton; the app knows only its URL |
| `guard` | a small process between the two, which ends Triton when the frontend goes, however it goes |
| `processes`, `stub_monitor` | ends what a killed guard left behind; notices when a Python model's process dies |
| `triton_log` | passes on Triton's log, and finds why Triton ended |
| `installation`, `preflight` | the parts of the wheel here; whether this machine can run them, and what mends it |
| `s3_repository` | a model repository from S3 |
"""
