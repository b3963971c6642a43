# SPDX-License-Identifier: Apache-2.0
"""The colours the demo knows: base colours with their words, light and dark shades, and fixed materials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

RGB = tuple[int, int, int]

BASE: dict[str, RGB] = {
    "red": (222, 32, 36),
    "orange": (250, 132, 18),
    "yellow": (250, 212, 40),
    "green": (44, 164, 66),
    "cyan": (44, 206, 214),
    "blue": (44, 88, 224),
    "purple": (136, 52, 190),
    "pink": (246, 128, 180),
    "brown": (132, 80, 42),
    "black": (36, 34, 40),
    "white": (246, 246, 244),
    "gray": (136, 138, 144),
}

# The first word is the most frequent.
WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "red", "scarlet"),
    "orange": ("orange",),
    "yellow": ("yellow", "yellow", "golden", "gold"),
    "green": ("green", "green", "green", "emerald"),
    "cyan": ("cyan", "turquoise", "teal", "cyan"),
    "blue": ("blue",),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "rose"),
    "brown": ("brown", "brown", "brown", "wooden"),
    "black": ("black",),
    "white": ("white", "white", "white", "ivory"),
    "gray": ("gray", "grey", "gray", "silver"),
}

LIGHT_WORDS = ("light", "light", "pale", "bright", "pastel")
DARK_WORDS = ("dark", "dark", "deep", "dark")
SHADED = ("red", "green", "cyan", "blue", "purple", "brown", "gray", "orange", "pink")

# Materials of parts, independent of the object's colour.
MATERIALS: dict[str, RGB] = {
    "ink": (30, 28, 34),
    "snow": (250, 250, 250),
    "wood": (122, 78, 44),
    "leaf": (52, 158, 60),
    "glass": (168, 218, 246),
    "lamp": (255, 226, 120),
    "metal": (168, 174, 182),
    "gold": (248, 196, 52),
    "rose": (240, 120, 150),
    "tomato": (206, 44, 40),
    "cream": (250, 232, 190),
    "skin": (246, 202, 160),
    "coal": (44, 42, 48),
    "flame": (252, 150, 30),
    "sky": (92, 170, 240),
    "roof": (170, 62, 48),
    "choco": (84, 48, 30),
}

# Colours of parts of people, with the words of captions. The first is the usual one.
SKINS: dict[str, RGB] = {"light": (246, 202, 160), "brown": (166, 106, 66), "dark": (98, 62, 42)}
HAIRS: dict[str, RGB] = {
    "brown": (112, 64, 32),
    "black": (40, 36, 40),
    "blonde": (246, 208, 96),
    "red": (208, 72, 26),
    "gray": (168, 170, 176),
}
EYES: dict[str, RGB] = {"brown": (124, 72, 36), "blue": (48, 110, 226), "green": (44, 164, 66), "gray": (130, 136, 146)}


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour with its word in captions and its painted value."""

    name: str
    shade: str
    rgb: RGB

    def words(self, rng: np.random.Generator) -> str:
        word = str(rng.choice(WORDS[self.name]))
        if self.shade == "light":
            return f"{rng.choice(LIGHT_WORDS)} {word}"
        if self.shade == "dark":
            return f"{rng.choice(DARK_WORDS)} {word}"
        return word


def draw_name(rng: np.random.Generator, among: Iterable[str]) -> str:
    return str(rng.choice(list(among)))


def mix(rgb: RGB, other: RGB, amount: float) -> RGB:
    """Mix `amount` of `other` into `rgb`."""
    r, g, b = (round(a + (c - a) * amount) for a, c in zip(rgb, other, strict=True))
    return r, g, b


def colour(name: str, shade: str = "") -> Colour:
    rgb = BASE[name]
    if shade == "light":
        rgb = mix(rgb, (255, 255, 255), 0.5)
    elif shade == "dark":
        rgb = mix(rgb, (0, 0, 0), 0.48)
    return Colour(name, shade, rgb)


def draw_colour(rng: np.random.Generator, *, among: tuple[str, ...] = (), shaded: float = 0.25) -> Colour:
    name = str(rng.choice(among or tuple(BASE)))
    shade = str(rng.choice(("light", "dark"))) if name in SHADED and rng.random() < shaded else ""
    return colour(name, shade)


def distance(first: RGB, second: RGB) -> float:
    return float(np.linalg.norm(np.subtract(first, second, dtype=float)))


def draw_contrasting(rng: np.random.Generator, other: Colour, *, among: tuple[str, ...] = ()) -> Colour:
    """A colour with another name that clearly differs from `other`."""
    for _ in range(20):
        candidate = draw_colour(rng, among=among)
        if candidate.name != other.name and distance(candidate.rgb, other.rgb) > 90:
            return candidate
    return colour("white" if other.name != "white" else "blue")
