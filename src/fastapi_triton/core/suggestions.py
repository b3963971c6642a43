# SPDX-License-Identifier: Apache-2.0
"""Suggestions for unknown names in errors."""

import difflib
from collections.abc import Iterable

# Characters.
_MAX_COMPARED = 64


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them."""
    known = list(names)
    # The comparison takes quadratic time, and no valid name is longer.
    close = difflib.get_close_matches(name, known, n=1) if len(name) <= _MAX_COMPARED else []
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; known are {', '.join(f'`{each}`' for each in known)}" if known else ""
