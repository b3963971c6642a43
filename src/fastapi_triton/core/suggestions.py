# SPDX-License-Identifier: Apache-2.0
"""Suggestions for unknown names in errors."""

import difflib
from collections.abc import Iterable

# Characters.
_MAX_COMPARED = 64


def closest(name: str, names: Iterable[str]) -> str | None:
    """The known name that resembles an unknown one; None if none does."""
    # The comparison takes quadratic time, and no valid name is longer.
    found = difflib.get_close_matches(name, list(names), n=1) if len(name) <= _MAX_COMPARED else []
    return found[0] if found else None


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them."""
    known = list(names)
    if close := closest(name, known):
        return f"; did you mean `{close}`?"
    return f"; known are {', '.join(f'`{each}`' for each in known)}" if known else ""
