# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton init`: writes an app to edit, by default the scribble app, or one for models that exist.

| module | purpose |
| --- | --- |
| `command` | the options, and the files |
| `app_source` | `main.py` for model configs |
| `declaration_source` | the source of one declared endpoint: two pydantic models and `app.infer` |
"""
