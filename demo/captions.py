# SPDX-License-Identifier: Apache-2.0
"""Captions of painted scenes in varying grammar. Facts that a scene omits are omitted in all its captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from demo.backgrounds import PHRASES
from demo.nouns import ADJECTIVES, ENDINGS, OPENINGS

if TYPE_CHECKING:
    from demo.backgrounds import Background
    from demo.palette import Colour

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Subject:
    noun: str
    colour: Colour
    says_colour: bool


def caption(subjects: tuple[Subject, ...], background: Background, *, says_background: bool, rng: Rng) -> str:
    tags = len(subjects) == 1 and rng.random() < 0.1
    where = place(background, rng, as_tag=tags) if says_background else ""
    if tags:
        text = ", ".join(x for x in (phrase(subjects[0], rng, article=False), where) if x)
    else:
        things = " and ".join(phrase(s, rng, article=rng.random() < 0.92) for s in subjects)
        if len(subjects) == 2 and rng.random() < 0.25:
            link = "next to" if rng.random() < 0.5 else "left of"
            things = f" {link} ".join(phrase(s, rng, article=True) for s in subjects)
        opening = f"{rng.choice(OPENINGS)} " if rng.random() < 0.25 else ""
        text = f"{opening}{things}{' ' if where and not where.startswith(',') else ''}{where}"
    if rng.random() < 0.12:
        text += ", " + ", ".join(rng.choice(ENDINGS, int(rng.integers(1, 3)), replace=False))
    if rng.random() < 0.1:
        text += "."
    return text[0].upper() + text[1:] if rng.random() < 0.15 else text


def phrase(subject: Subject, rng: Rng, *, article: bool) -> str:
    words = [str(rng.choice(ADJECTIVES))] if rng.random() < 0.18 else []
    if subject.says_colour:
        words.append(subject.colour.words(rng))
    text = " ".join([*words, subject.noun])
    if not article:
        return text
    first = "the" if rng.random() < 0.06 else "an" if text[0] in "aeiou" else "a"
    return f"{first} {text}"


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
