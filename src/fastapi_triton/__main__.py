# SPDX-License-Identifier: Apache-2.0
"""`python -m fastapi_triton` is the same as `fastapi-triton`."""

from fastapi_triton.cli.main import app

app()
