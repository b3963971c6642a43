# SPDX-License-Identifier: Apache-2.0
"""Where a picture lies in one of another shape: in the middle, as large as possible, undistorted. Imports no torch."""

from dataclasses import dataclass
from typing import Self

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Placement:
    """The place of one picture within a larger one."""

    canvas: Size  # width, height
    size: Size  # of the placed picture

    @classmethod
    def of(cls, size: Size, canvas: Size) -> Self:
        """The place of a picture of this size."""
        scale = min(canvas[0] / size[0], canvas[1] / size[1])
        return cls(canvas, (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))

    @property
    def margins(self) -> tuple[int, int, int, int]:
        """The free pixels left of it, above, right and below."""
        left, top = (self.canvas[0] - self.size[0]) // 2, (self.canvas[1] - self.size[1]) // 2
        return left, top, self.canvas[0] - self.size[0] - left, self.canvas[1] - self.size[1] - top
