# SPDX-License-Identifier: Apache-2.0
"""The size of a picture: one that the checkpoint makes, or a larger one that is upscaled from it. Imports no torch."""

import math
from dataclasses import dataclass

from diffusion_engine.capabilities import Capabilities
from diffusion_engine.errors import RequestError
from diffusion_engine.placement import Size

# The sizes that compete for requests without a size: their area, relative to the default's. The largest sizes cost the
# most, so a request must name them.
LIKE_THE_DEFAULT = (0.7, 1.25)
# An upscaled picture may be stretched by this much to the requested shape: 6%, which nobody sees.
MAX_STRETCH = 0.06


@dataclass(frozen=True, slots=True)
class PictureSize:
    """The size that the checkpoint makes, and the size of the picture in the response."""

    made: Size
    sent: Size

    @property
    def is_upscaled(self) -> bool:
        return self.made != self.sent


def choose_size(
    capabilities: Capabilities, width: int | None, height: int | None, *, scribble_size: Size
) -> PictureSize:
    """The requested size; without one, the size closest to the scribble's shape.

    Raises:
        RequestError: the checkpoint does not make the requested size, and no picture is upscaled to it.
    """
    fitting = [
        size
        for size in capabilities.sizes
        if (width is None or size[0] == width) and (height is None or size[1] == height)
    ]
    if width is None and height is None:
        fitting = usual_sizes(capabilities)
    if fitting:
        made = min(fitting, key=lambda size: shape_distance(size, scribble_size))
        return PictureSize(made, made)
    upscaled = upscaled_size(capabilities, width, height, scribble_size)
    if upscaled is None:
        raise unsupported_size(capabilities, width, height)
    return upscaled


def upscaled_size(
    capabilities: Capabilities, width: int | None, height: int | None, scribble_size: Size
) -> PictureSize | None:
    """A larger size, with the size from which it is upscaled; None if that is too far from it."""
    if min(side for side in (width, height) if side is not None) < 1:
        return None
    shape = (width, height) if width and height else scribble_size
    usual = capabilities.defaults.width * capabilities.defaults.height
    made = min(
        (size for size in capabilities.sizes if size[0] * size[1] > LIKE_THE_DEFAULT[0] * usual),
        key=lambda size: (round(shape_distance(size, shape), 2), abs(math.log(size[0] * size[1] / usual))),
    )
    sent = (
        width or max(1, round(made[0] * (height or 0) / made[1])),
        height or max(1, round(made[1] * (width or 0) / made[0])),
    )
    scale = max(sent[0] / made[0], sent[1] / made[1])
    is_near = shape_distance(made, sent) <= MAX_STRETCH
    return PictureSize(made, sent) if is_near and 1 < scale <= capabilities.limits.max_upscale else None


def usual_sizes(capabilities: Capabilities) -> list[Size]:
    """The sizes with about the default's area."""
    area = capabilities.defaults.width * capabilities.defaults.height
    low, high = LIKE_THE_DEFAULT
    return [size for size in capabilities.sizes if low < size[0] * size[1] / area < high]


def unsupported_size(capabilities: Capabilities, width: int | None, height: int | None) -> RequestError:
    defaults, sizes = capabilities.defaults, capabilities.sizes
    wanted = (width or height or defaults.width, height or width or defaults.height)
    nearest = min(sizes, key=lambda size: math.dist(size, wanted))
    given = [f"`{name}` is {side}" for name, side in (("width", width), ("height", height)) if side is not None]
    most = capabilities.limits.max_upscale
    upscaled = f" Sizes of such shapes up to {most:g} times as wide are upscaled from them." if most > 1 else ""
    return RequestError(
        "unsupported_size",
        f"{' and '.join(given)}; the nearest size is {nearest[0]}x{nearest[1]}. "
        f"{capabilities.name} supports {', '.join(f'{w}x{h}' for w, h in sizes)}.{upscaled}",
        field="height" if width in {size[0] for size in sizes} else "width",
    )


def shape_distance(size: Size, other: Size) -> float:
    """The difference between two aspect ratios, as a logarithm; 0 if they are equal."""
    return abs(math.log(size[0] * other[1] / (size[1] * other[0])))
