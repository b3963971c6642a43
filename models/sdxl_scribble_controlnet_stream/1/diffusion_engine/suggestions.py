# SPDX-License-Identifier: Apache-2.0
"""Suggestions for unknown names in errors. Imports no torch."""

import difflib
from collections.abc import Iterable

# Longer names are not compared.
MAX_COMPARED = 64


def nearest(name: str, known: Iterable[str]) -> str:
    """The nearest known name, as a part of a sentence; empty if none is similar."""
    # The comparison takes quadratic time.
    found = difflib.get_close_matches(name, list(known), n=1) if len(name) <= MAX_COMPARED else []
    return f" (did you mean {found[0]}?)" if found else ""
