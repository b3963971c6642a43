# SPDX-License-Identifier: Apache-2.0
"""The `fastapi-triton` command.

It owns options, messages for people and exit statuses. It may import every other package, and none imports it. The
other packages do the work, except for the checks, the client of `generate` and the comparisons of `perf`.

| module | purpose |
| --- | --- |
| `main` | the commands |
| `serve` | `serve`: options, model repository, folder for jobs |
| `setting_flags` | makes a flag for every setting |
| `keys` | `keys`: creates, lists and revokes API keys |
| `add_model` | `add-model`: adds a picture model with another checkpoint to a model repository |
| `errors` | prints an error and exits |
| `check/` | `check` and `openapi`: finds errors in apps, model repositories and a running Triton |
| `generate/` | `generate`: makes pictures, over HTTP or with its own server |
| `init/` | `init`: writes an app to edit |
| `perf/` | `perf`: measures models and endpoints with NVIDIA's perf_analyzer and aiperf |
"""
