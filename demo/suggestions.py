# SPDX-License-Identifier: Apache-2.0
"""Words for prompts: what the trained scenes show. `serving.json` has them, and the page suggests them."""

from __future__ import annotations

import demo.scenes  # noqa: F401  fills KINDS
from demo.backgrounds import PHRASES
from demo.kind import KINDS
from demo.palette import BASE

LEAST_WEIGHT = 0.5


def suggestions() -> dict[str, list[str]]:
    """Nouns of things, colours, and phrases for backgrounds."""
    things = dict.fromkeys(kind.nouns[0] for kind in KINDS.values() if kind.weight >= LEAST_WEIGHT)  # without letters
    return {"things": list(things), "colours": list(BASE), "places": [phrases[0] for phrases in PHRASES.values()]}
