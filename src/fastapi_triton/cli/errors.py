# SPDX-License-Identifier: Apache-2.0
"""How a command fails: a reason on standard error, and an exit status."""

import sys
from typing import NoReturn

import typer
from pydantic import ValidationError

from fastapi_triton.observability.logging_config import printable_lines

USAGE = 2


def fail(reason: str, *, status: int = USAGE) -> NoReturn:
    """Print the reason and exit."""
    typer.echo(printable_lines(reason), err=True)
    sys.exit(status)


def invalid_settings(error: ValidationError) -> str:
    """One line for each setting with an invalid value."""
    return "\n".join(f"{each['loc'][0]}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors())
