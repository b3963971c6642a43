# SPDX-License-Identifier: Apache-2.0
"""An animated WebP from the frames of a screencast: as sharp as its size limit allows."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

# Frames a second and WebP quality, from the best to the smallest.
CHOICES = ((20, 90), (20, 75), (15, 75), (15, 60), (12, 45), (10, 30))


@dataclass(frozen=True)
class Frame:
    """A picture file, and when it appeared, in seconds of any clock."""

    at: float
    picture: bytes


@dataclass(frozen=True)
class Animation:
    file: bytes
    frames_per_s: int
    quality: int


def at_rate(frames: Sequence[Frame], frames_per_s: int) -> list[Frame]:
    """The newest frame of each tick, with times from 0. Equal frames in a row become one. `frames` are in order."""
    begin = frames[0].at
    ticks = {int((frame.at - begin) * frames_per_s + 1e-6): frame.picture for frame in frames}
    groups = itertools.groupby(ticks.items(), key=lambda item: item[1])
    return [Frame(next(items)[0] / frames_per_s, picture) for picture, items in groups]


def encoded(frames: Sequence[Frame], quality: int, *, last_s: float, height: int) -> bytes:
    """An animated WebP that repeats forever. The last frame stays for `last_s` seconds."""
    ends = [*(frame.at for frame in frames[1:]), frames[-1].at + last_s]
    pictures = [_top(frame.picture, height) for frame in frames]
    file = io.BytesIO()
    pictures[0].save(
        file,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=[round(1000 * end) - round(1000 * frame.at) for frame, end in zip(frames, ends, strict=True)],
        loop=0,
        quality=quality,
        method=4,
        kmin=0,
        kmax=0,  # no key frames: nobody seeks in it, and each would be a whole picture
    )
    return file.getvalue()


def _top(picture: bytes, height: int) -> Image.Image:
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    return image.crop((0, 0, image.width, min(height, image.height)))


def fitting(frames: Sequence[Frame], *, max_bytes: int, last_s: float, height: int) -> Animation:
    """The best animation of at most this size.

    Args:
        last_s: how long the last frame stays.
        height: of the animation. The pictures are cut off below.

    Raises:
        ValueError: even the smallest is larger.
    """
    sizes = []
    for frames_per_s, quality in CHOICES:
        file = encoded(at_rate(frames, frames_per_s), quality, last_s=last_s, height=height)
        if len(file) <= max_bytes:
            return Animation(file, frames_per_s, quality)
        sizes.append(len(file))
    raise ValueError(f"The smallest animation has {min(sizes)} bytes; at most {max_bytes} are allowed.")
