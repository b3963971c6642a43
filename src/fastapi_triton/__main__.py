# SPDX-License-Identifier: Apache-2.0
"""`python -m fastapi_triton`: the same as the command `fastapi-triton`."""

from fastapi_triton.cli.main import app

app()
