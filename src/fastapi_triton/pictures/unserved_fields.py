# SPDX-License-Identifier: Apache-2.0
"""Notes about the fields of a request that this server does not serve, and about misspelled names.

No field of a request is ignored in silence: it is served, rejected, or noted here. Only a neutral value needs no note:
one that means what happens anyway.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi_triton.core.errors import shown
from fastapi_triton.core.suggestions import closest
from fastapi_triton.core.wrong_values import described

# The most notes about the fields of one object. A client may send any number of fields.
MAX_NOTES = 20
# JSON values that send nothing.
_NOTHING: tuple[Any, ...] = (None, "", [], {})


@dataclass(frozen=True, slots=True)
class Unserved:
    """A known field that is not served: why, and its neutral values beside those that send nothing."""

    reason: str = "it is not supported"
    neutral: tuple[Any, ...] = ()


def notes(values: Mapping[str, Any], unserved: Mapping[str, Unserved], known: Iterable[str]) -> list[str]:
    """A note for each field of `values` whose value is not neutral. `known` are the names of the served fields."""
    names = [name for name, value in values.items() if not _is_neutral(value, unserved.get(name))]
    # Only for these: the comparison with the known names takes most of the time.
    found = [_note(name, values[name], unserved.get(name), (*known, *unserved)) for name in names[:MAX_NOTES]]
    num_more = len(names) - MAX_NOTES
    return found if num_more <= 0 else [*found, f"{num_more:,} more fields were ignored."]


def query_notes(options: Iterable[str]) -> list[str]:
    """A note for the options of a URL's query, which these APIs do not have."""
    names = [f"`{shown(name)}`" for name in options]
    return [f"The URL's query was ignored: {', '.join(names[:MAX_NOTES])}. Send fields in the body."] if names else []


def _is_neutral(value: Any, field: Unserved | None) -> bool:
    return value in _NOTHING or (field is not None and value in field.neutral)


def _note(name: str, value: Any, field: Unserved | None, known: Iterable[str]) -> str:
    if field is not None:
        return f"`{name}` is {described(value)}, and was ignored: {field.reason}."
    close = closest(name, known)
    return f"There is no field `{shown(name)}`{f'; did you mean `{close}`?' if close else '.'} It was ignored."
