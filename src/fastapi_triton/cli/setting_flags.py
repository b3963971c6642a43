# SPDX-License-Identifier: Apache-2.0
"""Makes a flag for every setting from `Settings`: its name, type and description."""

import functools
import inspect
import os
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, get_origin

import typer
from pydantic.fields import FieldInfo

from fastapi_triton.core.settings import Settings, variable

# Help texts that differ from the setting's description.
_HELP = {"generate": "Serve POST /models/{name}/infer for every ready model; on by default."}
_SECRETS = ("triton_token", "triton_headers", "jobs_webhook_secret")
_VARIABLE_HINT = " Prefer the variable: other users of the machine can read flags."


def add(*, except_for: Collection[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator for a command with `**settings`: adds a flag for every setting except `except_for`.

    An omitted flag is None, so that the environment variable decides.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command)
        flags = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_flag(name, field))
            for name, field in Settings.model_fields.items()
            if name not in except_for
        ]
        kept = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]

        @functools.wraps(command)
        def with_flags(**given: Any) -> None:
            command(**given)

        with_flags.__signature__ = own.replace(  # type: ignore[attr-defined]  # what inspect and typer read
            parameters=[each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in kept] + flags
        )
        with_flags.__annotations__ = {**command.__annotations__, **{flag.name: flag.annotation for flag in flags}}
        return with_flags

    return decorate


def _flag(name: str, field: FieldInfo) -> Any:
    """The annotation from which typer makes the flag."""
    flag = "--" + name.replace("_", "-")
    description = _HELP.get(name, field.description or "") + (_VARIABLE_HINT if name in _SECRETS else "")
    if field.annotation is bool:
        return Annotated[bool | None, typer.Option(f"{flag}/--no-{flag[2:]}", help=description)]
    # Other types are passed on as text: `Settings` checks them and has better error messages.
    return Annotated[str | None, typer.Option(flag, help=description, metavar=_metavar(field))]


def _metavar(field: FieldInfo) -> str | None:
    if field.annotation in (int, float):
        return f"<{field.annotation.__name__}>"
    return "LIST" if get_origin(field.annotation) in (list, tuple, set, frozenset) else None


def export(flags: Mapping[str, object]) -> None:
    """Write the flags that were given into the environment, from which the app reads all settings."""
    for name, value in flags.items():
        if value is not None:
            os.environ[variable(name)] = str(value)
