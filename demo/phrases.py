# SPDX-License-Identifier: Apache-2.0
"""Phrases of a caption, and the regions of the picture that they describe: both have the same label."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from demo.painting import part_numbers

if TYPE_CHECKING:
    from demo.pixels import Pixels
    from demo.scenes import Scene

BACKGROUND = 0
UNLABELLED = 255
PARTS = 16  # labels of one subject: its own, then those of its named parts

# While a caption is composed, characters of Unicode's private use area surround its phrases.
_START, _END = 0xE000, "\uf8ff"
_MARKS = re.compile(f"[{chr(_START)}-{_END}]")


@dataclass(frozen=True, slots=True)
class Phrase:
    label: int
    start: int
    end: int  # of its characters in the caption


@dataclass(frozen=True, slots=True)
class Caption:
    """A text and its phrases. An inner phrase follows the one that surrounds it."""

    text: str
    phrases: tuple[Phrase, ...]


def label_of(subject: int, part: int = 0) -> int:
    """The label of a subject, in the order of captions, or of its named part, counted from 1."""
    return 1 + PARTS * subject + min(part, PARTS - 1)


def marked(text: str, label: int) -> str:
    return f"{chr(_START + label)}{text}{_END}"


def unmarked(text: str) -> str:
    return _MARKS.sub("", text)


def parse(text: str) -> Caption:
    """The caption of a text with marked phrases."""
    plain, phrases, started = "", list[Phrase](), list[int]()
    for character in text:
        if character == _END:
            index = started.pop()
            phrases[index] = Phrase(phrases[index].label, phrases[index].start, len(plain))
        elif _MARKS.match(character):
            started.append(len(phrases))
            phrases.append(Phrase(ord(character) - _START, len(plain), len(plain)))
        else:
            plain += character
    return Caption(plain, tuple(phrases))


def regions(scene: Scene) -> Pixels:
    """(H, W): the label of each pixel. Parts that captions do not name have their subject's."""
    labels = np.full(scene.owner.shape, BACKGROUND, np.uint8)
    subjects = [placed.subject for placed in reversed(scene.objects)]
    for number, placed in enumerate(scene.objects):
        subject = subjects.index(placed.subject)  # equal ones share a phrase: "two red cats"
        extras = placed.subject.extras
        of_parts = [label_of(subject, extras.index(p.said) + 1 if p.said in extras else 0) for p in placed.parts]
        found = np.array([label_of(subject), *of_parts], np.uint8)
        own = scene.owner == number
        labels[own] = found[part_numbers(placed.parts, scene.size, unit=placed.unit)[own]]
    return labels
