# SPDX-License-Identifier: Apache-2.0
"""A1111's always-on scripts: the units of `controlnet`, and the others, which must ask for nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi_triton.core.errors import invalid_field, shown
from fastapi_triton.pictures.a1111.saved_values import is_nothing, plain

# A1111's own scripts whose arguments repeat the request's fields, in this order. Its API ignores them, too.
_BUILT_IN = {"sampler": ("steps", "sampler_name", "scheduler"), "seed": ("seed",), "refiner": ()}
# Values of these arguments that mean what happens anyway.
_NEUTRAL = ("", "-1", "automatic")
# The members that turn a script on or off whose argument is an object.
_SWITCHES = ("enabled", "enable", "is_enabled", "active")


def units(scripts: Mapping[str, Any], request: Any, note: Callable[[str], None]) -> list[Any]:
    """The arguments of `controlnet`: its units, as they were sent. Notes the built-in scripts that ask for something.

    Raises:
        InvalidRequestError: another script is on.
    """
    found: list[Any] = []
    for name, script in scripts.items():
        arguments = _arguments(script)
        kind = name.strip().lower()
        if kind == "controlnet":
            found += arguments
        elif kind in _BUILT_IN:
            if _differs(arguments, _BUILT_IN[kind], request):
                note(f'The always-on script "{shown(name)}" was ignored: as in A1111\'s API, the fields apply.')
        elif not _is_off(arguments):
            detail = f'The always-on script "{shown(name)}" is not supported, only controlnet is. Turn it off.'
            raise invalid_field(name, "unsupported_parameter", detail)
    return found


def _arguments(script: Any) -> Sequence[Any]:
    arguments = script.get("args") if isinstance(script, Mapping) else script
    return arguments if isinstance(arguments, list) else [arguments]


def _is_off(arguments: Sequence[Any]) -> bool:
    """Whether a script's arguments ask for nothing: the first one that is true or false is false, or all are empty."""
    for argument in arguments:
        value = argument
        if isinstance(argument, Mapping):
            value = next((argument[name] for name in _SWITCHES if name in argument), None)
        if isinstance(plain(value), bool):
            return not plain(value)
    return all(map(is_nothing, arguments))


def _differs(arguments: Sequence[Any], fields: Sequence[str], request: Any) -> bool:
    """Whether a built-in script asks for something that the request's fields do not have."""
    for argument, field in zip(arguments, fields, strict=False):
        same = (*_NEUTRAL, str(getattr(request, field)).lower())
        if not is_nothing(argument) and str(argument).strip().lower() not in same:
            return True
    return not _is_off(arguments[len(fields) :])
