# SPDX-License-Identifier: Apache-2.0
"""Everything that can be drawn by name; importing this fills `demo.kind.KINDS`."""

from demo.kinds import animals, buildings, food, objects, plants, rounds, symbols, vehicles

__all__ = ["animals", "buildings", "food", "objects", "plants", "rounds", "symbols", "vehicles"]
