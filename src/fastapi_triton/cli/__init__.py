# SPDX-License-Identifier: Apache-2.0
"""The `fastapi-triton` command.

This room owns options, messages for people and exit statuses. All rooms are below it, and none imports it: the work
itself lies in them, except for the checks, the client of `generate` and the comparisons of `perf`, which only it needs.

| module | its one job |
| --- | --- |
| `main` | the commands, and `init` |
| `serve` | `serve`: options, model repository, folder for jobs |
| `setting_flags` | a flag for every setting |
| `keys` | `keys`: makes, lists and revokes API keys |
| `errors` | how a command fails |
| `check/` | `check` and `openapi`: finds mistakes in apps, model repositories and a running Triton |
| `generate/` | `generate`: makes pictures, over HTTP or with a server of its own |
| `perf/` | `perf`: what the frontend costs, measured with NVIDIA's perf_analyzer |
"""
