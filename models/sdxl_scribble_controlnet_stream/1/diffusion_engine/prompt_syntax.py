# SPDX-License-Identifier: Apache-2.0
r"""Parses prompts: plain text, or A1111's syntax for weights, chunks, and texts that change between steps.

A1111's syntax: `(word)` multiplies the weight of a word by 1.1, `(word:1.3)` by 1.3, `[word]` divides it by 1.1.
`BREAK` starts a new chunk. `[from:to:0.4]` changes the text after 40% of the steps, `[from:to:8]` after 8 steps;
`[a|b]` alternates between steps. After a backslash, a bracket is text. Imports no torch.
"""

import re
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from diffusion_engine.errors import RequestError

PLAIN, A1111 = "plain", "a1111"
SYNTAXES = (PLAIN, A1111)

ROUND_FACTOR = 1.1
SQUARE_FACTOR = 1 / 1.1
# Further opening brackets are text, so that the time to parse a prompt is proportional to its length.
MAX_DEPTH = 50
# The most `[from:to:when]` and `[a|b]` in a prompt. Each takes time for each step.
MAX_CHANGES = 100

# Without backtracking, as in the patterns below: long prompts must not take a time that is quadratic in their length.
_NUMBER = r"[+-]?(?:\d++\.?\d*+|\.\d++)"
# A backslash with a bracket, a weight with its closing bracket, other brackets, and the text between these.
_WEIGHTS = re.compile(rf"\\[()\[\]\\]?|:\s*(?P<weight>{_NUMBER})\s*\)|[()\[\]:]|[^\\()\[\]:]+")
_EDITS = re.compile(r"\\.?|[()\[\]:|]|[^\\()\[\]:|]+", re.DOTALL)
_STEP = re.compile(rf"\s*+{_NUMBER}\s*+")
_BREAK = re.compile(r"\bBREAK\b")
_AND = re.compile(r"\bAND\b")
_OPENING = {")": "(", "]": "["}


class Fragment(NamedTuple):
    """A part of a prompt in which all words have the same weight."""

    text: str
    weight: float = 1.0


def sections(text: str, syntax: str) -> list[list[Fragment]]:
    """The fragments of a prompt by section. `BREAK` ends a section. Each section starts a new chunk."""
    if syntax == PLAIN:
        return [[Fragment(text)]]
    found: list[list[Fragment]] = [[]]
    for fragment in _weighted(text):
        first, *others = _BREAK.split(fragment.text)
        found[-1].append(fragment._replace(text=first.rstrip() if others else first))
        for number, each in enumerate(others, start=1):
            found.append([fragment._replace(text=each.strip() if number < len(others) else each.lstrip())])
    return [_merged(each) for each in found]


def texts_of_steps(text: str, syntax: str, num_steps: int) -> list[str]:
    """The prompt of each step, without `[from:to:when]` and `[a|b]`.

    Raises:
        RequestError: the prompt has too many of them.
    """
    tokens = _EDITS.findall(text) if syntax == A1111 else []
    if "[" not in tokens or not {":", "|"} & set(tokens):
        return [text] * num_steps
    parts, num_changes = _parts(tokens, num_steps)
    if num_changes > MAX_CHANGES:
        detail = f"The prompt has {num_changes} parts that change between steps; at most {MAX_CHANGES} are allowed."
        raise RequestError("out_of_range", detail)
    return [_at_step(parts, step) for step in range(1, num_steps + 1)]


def joins_prompts(text: str, syntax: str) -> bool:
    """Whether `AND` joins several prompts, each with its own prediction of the noise."""
    return syntax == A1111 and _AND.search(text) is not None


def _weighted(text: str) -> list[Fragment]:
    texts: list[str] = []
    weights: list[float] = []
    open_at: dict[str, list[int]] = {"(": [], "[": []}

    def close(opening: str, factor: float) -> None:
        for index in range(open_at[opening].pop(), len(texts)):
            weights[index] *= factor

    for match in _WEIGHTS.finditer(text):
        part, weight = match[0], match["weight"]
        if part in open_at and len(open_at[part]) < MAX_DEPTH:
            open_at[part].append(len(texts))
        elif weight is not None and open_at["("]:
            close("(", float(weight))
        elif part == ")" and open_at["("]:
            close("(", ROUND_FACTOR)
        elif part == "]" and open_at["["]:
            close("[", SQUARE_FACTOR)
        else:
            texts.append(part[1:] if part[0] == "\\" else part)
            weights.append(1.0)
    for opening, factor in (("(", ROUND_FACTOR), ("[", SQUARE_FACTOR)):  # an unclosed bracket ends with the prompt
        while open_at[opening]:
            close(opening, factor)
    return [Fragment(*each) for each in zip(texts, weights, strict=True)]


def _merged(fragments: list[Fragment]) -> list[Fragment]:
    """Neighbours of equal weight as one fragment, because the tokens of a text depend on its neighbours."""
    runs = groupby(fragments, key=lambda fragment: fragment.weight)
    return [Fragment("".join(each.text for each in run), weight) for weight, run in runs]


@dataclass(frozen=True, slots=True)
class _Change:
    """A part of a prompt that changes between steps."""

    options: list["_Parts"]
    last_step: int | None  # of the first option; None: the options take turns

    def at(self, step: int) -> str:
        """Its text in one step, the first of which is 1."""
        if self.last_step is None:
            return _at_step(self.options[(step - 1) % len(self.options)], step)
        return _at_step(self.options[0 if step <= self.last_step else 1], step)


_Parts = list[str | _Change]


@dataclass(slots=True)
class _Bracket:
    """The parts of a bracket that is not closed yet, and the separators between them, `:` or `|`."""

    opening: str
    parts: list[_Parts] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)

    def add(self, parts: _Parts) -> None:
        self.parts[-1] += parts

    def as_text(self, closing: str = "") -> _Parts:
        """The same with its brackets and separators as text."""
        found: _Parts = [self.opening]
        for separator, part in zip(["", *self.separators], self.parts, strict=True):
            found += [separator, *part]
        return _compact([*found, closing])

    def closed(self, closing: str, num_steps: int) -> _Parts:
        options = [_compact(part) for part in self.parts]
        if closing == "]" and "|" in self.separators:
            if ":" not in self.separators:
                return [_Change(options, None)]
        elif closing == "]" and len(options) in (2, 3) and (when := _step(options[-1], num_steps)) is not None:
            return [_Change([[], *options[:-1]][-2:], when)]
        return self.as_text(closing)


def _parts(tokens: list[str], num_steps: int) -> tuple[_Parts, int]:
    """The texts and changes of a prompt, and the number of all changes, also those within others."""
    brackets, num_changes = [_Bracket("")], 0
    for token in tokens:
        innermost = brackets[-1]
        if token in ("(", "[") and len(brackets) < MAX_DEPTH:
            brackets.append(_Bracket(token))
        elif token in _OPENING and innermost.opening == _OPENING[token]:
            closed = brackets.pop().closed(token, num_steps)
            num_changes += isinstance(closed[0], _Change)
            brackets[-1].add(closed)
        elif token in (":", "|"):
            innermost.separators.append(token)
            innermost.parts.append([])
        else:
            innermost.add([token])
    return _compact([part for bracket in brackets for part in bracket.as_text()]), num_changes


def _step(parts: _Parts, num_steps: int) -> int | None:
    """The number of a step, or the part of all steps; None if it is neither."""
    text = _at_step(parts, 1)
    if not _STEP.fullmatch(text):
        return None
    return int(min(float(text) * (num_steps if "." in text else 1), num_steps))


def _compact(parts: _Parts) -> _Parts:
    """The same with neighbouring texts joined."""
    found: _Parts = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


def _at_step(parts: _Parts, step: int) -> str:
    return "".join(part if isinstance(part, str) else part.at(step) for part in parts)
