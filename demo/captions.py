# SPDX-License-Identifier: Apache-2.0
"""Captions of painted scenes in varying grammar. Facts that a scene omits are omitted in all its captions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from demo.backgrounds import PHRASES
from demo.nouns import ADJECTIVES, ENDINGS, OPENINGS
from demo.phrases import BACKGROUND, Caption, label_of, marked, parse, unmarked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.backgrounds import Background
    from demo.palette import Colour

Rng = np.random.Generator

SHUFFLED = 0.15  # share of captions that name several kinds in any order
PLACED = 0.2  # share of captions that say where the objects are
LINKS: dict[str, tuple[str, ...]] = {
    "row": ("next to", "left of", "beside", "to the left of"),
    "column": ("above", "over", "on top of"),
    "depth": ("in front of",),
}
WHERE: dict[tuple[str, int], tuple[str, ...]] = {
    ("row", 2): ("on the left", "on the right"),
    ("row", 3): ("on the left", "in the middle", "on the right"),
    ("column", 2): ("at the top", "at the bottom"),
    ("column", 3): ("at the top", "in the middle", "at the bottom"),
}
# A mouth is said as an adjective of the face as often as after "with".
MOODS = {"a smile": ("smiling", "happy"), "a sad mouth": ("sad", "unhappy"), "an open mouth": ("surprised", "singing")}


@dataclass(frozen=True, slots=True)
class Subject:
    noun: str
    colour: Colour
    says_colour: bool
    extras: tuple[str, ...] = ()  # named parts: "green eyes", "an orange fish in it"
    has_article: bool = True  # False for "mountains" or "grass"
    is_known: bool = True  # whether its shape shows what it is


def caption(
    subjects: tuple[Subject, ...],
    background: Background,
    *,
    says_background: bool,
    rng: Rng,
    arrangement: str = "row",
) -> Caption:
    tags = len(subjects) == 1 and not subjects[0].extras and rng.random() < 0.1
    where = place(background, rng, as_tag=tags) if says_background else ""
    if tags:
        wall = [marked(where, BACKGROUND)] if where else []
        text = ", ".join([phrase(subjects[0], rng, label=label_of(0), article=False), *wall])
    else:
        opening = f"{rng.choice(OPENINGS)} " if rng.random() < 0.25 else ""
        text = f"{opening}{things(subjects, arrangement, rng)}"
        if where:
            text += f"{'' if where.startswith(',') else ' '}{marked(where, BACKGROUND)}"
    if rng.random() < 0.12:
        text += ", " + ", ".join(rng.choice(ENDINGS, int(rng.integers(1, 3)), replace=False))
    if rng.random() < 0.1:
        text += "."
    found = parse(text)
    return replace(found, text=found.text[0].upper() + found.text[1:]) if rng.random() < 0.15 else found


def things(subjects: tuple[Subject, ...], arrangement: str, rng: Rng) -> str:
    """The objects from left to right, or from top to bottom, or from front to back."""
    if len(subjects) > 1 and len(set(subjects)) == 1:
        number = "two" if len(subjects) == 2 else "three"
        return f"{number} {phrase(plural(subjects[0]), rng, label=label_of(0), article=False)}"
    phrases = [
        phrase(s, rng, label=label_of(i), article=s.has_article and rng.random() < 0.92) for i, s in enumerate(subjects)
    ]
    if arrangement == "landscape":
        if rng.random() < 0.6:
            rng.shuffle(phrases)
        if rng.random() < 0.35:
            return f"a landscape with {listed(phrases)}"
        if rng.random() < 0.6 and len(phrases) > 1:
            return f"{phrases[0]} with {listed(phrases[1:])}"
        return listed(phrases)
    if len(subjects) == 1:
        return phrases[0]
    if rng.random() < PLACED:
        return positioned(phrases, arrangement, rng)
    if rng.random() < SHUFFLED and all(s.is_known for s in subjects) and len({s.noun for s in subjects}) > 1:
        rng.shuffle(phrases)
    return listed(phrases)


def positioned(phrases: list[str], arrangement: str, rng: Rng) -> str:
    """The objects with words for their positions, where there are some."""
    spots = WHERE.get((arrangement, len(phrases)))
    if len(phrases) == 2 and (not spots or rng.random() < 0.6):
        return f" {rng.choice(LINKS[arrangement])} ".join(phrases)
    return listed([f"{p} {spot}" for p, spot in zip(phrases, spots, strict=True)] if spots else phrases)


def listed(phrases: Sequence[str]) -> str:
    """ "a", "a and b", or "a, b and c"."""
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}" if len(phrases) > 1 else phrases[0]


def plural(subject: Subject) -> Subject:
    noun = subject.noun
    if is_plural(noun):
        return subject
    if noun.endswith(("s", "x", "ch", "sh")):
        noun += "es"
    elif noun.endswith("y") and noun[-2] not in "aeiou":
        noun = f"{noun[:-1]}ies"
    else:
        noun += "s"
    return Subject(noun, subject.colour, subject.says_colour, subject.extras, has_article=False)


def is_plural(noun: str) -> bool:
    return noun.endswith("s") and not noun.endswith(("ss", "us"))


def phrase(subject: Subject, rng: Rng, *, label: int, article: bool) -> str:
    """The subject with its named parts, marked with its `label` and those of the parts."""
    words = [str(rng.choice(ADJECTIVES))] if rng.random() < 0.18 else []
    extras = []
    for part, extra in enumerate(subject.extras, 1):
        if extra in MOODS and rng.random() < 0.6:
            words = [marked(str(rng.choice(MOODS[extra])), label + part)]
        else:
            extras.append(marked(extra, label + part))
    if subject.says_colour:
        words.append(subject.colour.words(rng))
    text = " ".join([*words, subject.noun])
    if article and not is_plural(subject.noun):
        first = "the" if rng.random() < 0.06 else "an" if unmarked(text)[0] in "aeiou" else "a"
        text = f"{first} {text}"
    text = marked(text, label)
    if not extras:
        return text
    return f"{text} with {listed(extras)}"


def place(background: Background, rng: Rng, *, as_tag: bool) -> str:
    words = [c.words(rng) for c in background.colours]
    if background.name == "plain":
        tail = f"{words[0]} background"
        if as_tag:
            return tail
        starts = ("on a", "on a", "on a", "with a", "against a", ", ", "in front of a")
        start = str(rng.choice(starts))
        if start == ", ":
            return f", {tail}"
        if start == "in front of a" or rng.random() < 0.08:
            return f"in front of a {words[0]} wall"
        if rng.random() < 0.08:
            return f"on {words[0]}"
        return f"{start.replace(' a', ' an') if tail[0] in 'aeiou' else start} {tail}"
    if background.name == "open sky":
        return f"under {'an' if words[0][0] in 'aeiou' else 'a'} {words[0]} sky"
    if background.name == "ground":
        above, below = words
        ground = "grass" if background.colours[1].name == "green" and rng.random() < 0.5 else "ground"
        if as_tag:
            return f"{above} sky, {below} {ground}"
        return str(
            rng.choice(
                (
                    f"on {below} {ground} under a {above} sky",
                    f"under a {above} sky on {below} {ground}",
                    f"with a {above} sky and {below} {ground}",
                )
            )
        )
    if as_tag and rng.random() < 0.4:
        return background.name
    return str(rng.choice(PHRASES[background.name]))
