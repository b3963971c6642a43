# SPDX-License-Identifier: Apache-2.0
"""All kinds that can be drawn by name. Importing this package fills `demo.kind.KINDS`."""

from demo.kinds import (
    animals,
    buildings,
    doodles,
    faces,
    food,
    nested,
    objects,
    people,
    plants,
    quadrupeds,
    rounds,
    symbols,
    thin,
    vehicles,
)

__all__ = [
    "animals",
    "buildings",
    "doodles",
    "faces",
    "food",
    "nested",
    "objects",
    "people",
    "plants",
    "quadrupeds",
    "rounds",
    "symbols",
    "thin",
    "vehicles",
]
