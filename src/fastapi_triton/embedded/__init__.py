# SPDX-License-Identifier: Apache-2.0
"""A Triton in a process below this one: installed, started, watched, restarted. Knows no HTTP and no app.

- `triton_process`: the running Triton; the app knows only its URL
- `guard`: a small process between the two; it takes Triton away when the frontend goes, however that happens
- `processes`, `stub_monitor`: ends what a killed guard left behind; notices when a Python model's process dies
- `triton_log`: Triton's log lines, and why it ended
- `installation`, `preflight`: the wheel's parts on this machine; whether the machine can run them, and what mends it
- `s3_repository/`: a model repository from S3
"""
