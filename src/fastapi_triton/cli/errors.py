# SPDX-License-Identifier: Apache-2.0
"""How a command fails: a reason on standard error, and an exit status."""

import sys
from typing import NoReturn

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fastapi_triton.core import urls, wrong_values
from fastapi_triton.core.settings import is_secret, setting_names, variable
from fastapi_triton.observability.logging_config import printable_lines

USAGE = 2


def triton_url(url: str | None) -> str | None:
    """The callback of an option for Triton's URL: checks it. The error does not repeat it: it may have a password."""
    try:
        return None if url is None else urls.triton_url(url)
    except ValueError as error:
        fail(f"Triton's URL is invalid: {error}.")


def fail(reason: str, *, status: int = USAGE) -> NoReturn:
    """Print the reason and exit."""
    typer.echo(printable_lines(reason), err=True)
    sys.exit(status)


def invalid_settings(error: ValidationError) -> str:
    """One line for each setting with an invalid value. Secrets are not shown."""
    return "\n".join(_sentence(each) for each in error.errors(include_url=False))


def _sentence(details: ErrorDetails) -> str:
    name = setting_names().get(str(details["loc"][0]), str(details["loc"][0]))
    if is_secret(name):
        details = ErrorDetails(**{**details, "input": ...})
    return wrong_values.sentence(variable(name), details)
