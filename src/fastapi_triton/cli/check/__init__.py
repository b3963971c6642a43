# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton check`: rules over model configs, Python models, an app's declarations and settings, and a Triton.

| module | its one job |
| --- | --- |
| `command` | the options and the table of findings; `openapi` too, which reads the same apps and repositories |
| `runner` | runs all rules, and applies waivers |
| `rule` | rules and findings |
| `repository`, `config_text` | read a model repository and `config.pbtxt` without a server |
| `probe` | reads a running Triton |
| `rules_*` | the rules, by what they look at |
"""
