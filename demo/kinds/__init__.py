# SPDX-License-Identifier: Apache-2.0
"""All kinds that can be drawn by name. Importing this package fills `demo.kind.KINDS`."""

from demo.kinds import animals, buildings, food, objects, plants, rounds, symbols, vehicles

__all__ = ["animals", "buildings", "food", "objects", "plants", "rounds", "symbols", "vehicles"]
