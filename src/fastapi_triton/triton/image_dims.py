# SPDX-License-Identifier: Apache-2.0
"""Finds out from a tensor's config whether it holds a picture: its layout, channels and size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Normalize = Literal["none", "unit", "inception", "imagenet"]
"""The range of a picture's values in a tensor of floats: 0 to 255, 0 to 1, -1 to 1, or ImageNet's mean and deviation.

`none` and `inception` are the names of Triton's own image client.
"""

DEFAULT_NORMALIZE: Normalize = "unit"
_CHANNELS = (1, 3)
# By datatype and the number of channels. ImageNet's mean and deviation are for RGB.
_GREY: tuple[Normalize, ...] = ("none", "unit", "inception")
_NORMALIZATIONS: dict[tuple[str, int], tuple[Normalize, ...]] = {
    ("UINT8", 1): (),
    ("UINT8", 3): (),
    **dict.fromkeys((("FP16", 1), ("FP32", 1)), _GREY),
    **dict.fromkeys((("FP16", 3), ("FP32", 3)), (*_GREY, "imagenet")),
}


@dataclass(frozen=True, slots=True)
class ImageDims:
    """A picture's dims. `height` and `width` of -1 stand for any size.

    `leading` is a dimension before those of the picture: 1, or -1 for any number of pictures. None: there is none.
    `normalizations` are the possible ones; UINT8, whose values are always 0 to 255, has none.
    """

    channels_first: bool
    num_channels: int
    height: int
    width: int
    leading: int | None
    normalizations: tuple[Normalize, ...]


def image_dims(dims: Sequence[int], datatype: str, image_format: str = "") -> ImageDims | None:
    """The dims of a picture. None: the tensor does not hold one, or it does not say which dim has the channels.

    Args:
        dims: the config's dims, without a batch dimension.
        datatype: the name on the wire, such as FP32.
        image_format: the config's `format`, which decides if the first and the last dim could both be channels.
    """
    leading = dims[0] if len(dims) == 4 and dims[0] in (1, -1) else None
    picture = dims[1:] if leading is not None else dims
    if len(picture) != 3 or 0 in picture:
        return None
    may_be_first = picture[0] in _CHANNELS and image_format != "FORMAT_NHWC"
    may_be_last = picture[2] in _CHANNELS and image_format != "FORMAT_NCHW"
    if may_be_first == may_be_last:
        return None
    num_channels, height, width = picture if may_be_first else (picture[2], *picture[:2])
    normalizations = _NORMALIZATIONS.get((datatype, num_channels))
    if normalizations is None:
        return None
    return ImageDims(may_be_first, num_channels, height, width, leading, normalizations)
