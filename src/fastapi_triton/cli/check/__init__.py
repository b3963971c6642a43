# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton check`: rules for model configs, Python models, an app's declarations and settings, and a Triton.

| module | purpose |
| --- | --- |
| `command` | the options and the table of findings; also `openapi`, which reads the same apps and repositories |
| `runner` | runs all rules, and applies waivers |
| `rule` | what a rule and a finding are |
| `repository` | reads a model repository without a server |
| `backend` | the backend that Triton derives for a model, and what it adds to the config |
| `tensor` | an input or an output, perhaps with missing fields |
| `versions` | the version folders of a model, and those that Triton loads |
| `ensemble` | an ensemble among the models of its repository |
| `ensemble_steps` | the steps of an ensemble |
| `named_files` | looks for files that a config names |
| `data_files` | files with a tensor's data that a config names |
| `python_files` | the syntax trees of a model's Python files |
| `probe` | reads a running Triton |
| `rules_*` | the rules, by subject |
"""
