# SPDX-License-Identifier: Apache-2.0
"""What is wrong with one value of a request, and where in it."""

from dataclasses import dataclass

Location = tuple[int | str, ...]

# More of them help nobody, and a body may have a million.
MAX_FLAWS = 10


@dataclass(frozen=True, slots=True)
class Flaw:
    """`location` leads from the value to the wrong part of it; `reason` is the end of a sentence about that part."""

    location: Location
    code: str
    reason: str


class UnfitValueError(ValueError):
    """A value cannot become a tensor; every reason, up to `MAX_FLAWS`."""

    def __init__(self, *flaws: Flaw) -> None:
        super().__init__("; ".join(flaw.reason for flaw in flaws))
        self.flaws = flaws[:MAX_FLAWS]


def unfit(code: str, reason: str, location: Location = ()) -> UnfitValueError:
    """The error for a single flaw."""
    return UnfitValueError(Flaw(location, code, reason))
