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

PLAIN, A1111 = "plain", "a1111"
SYNTAXES = (PLAIN, A1111)

ROUND_FACTOR = 1.1
SQUARE_FACTOR = 1 / 1.1
# Further opening brackets are text, so that the time to parse a prompt is proportional to its length.
MAX_DEPTH = 50

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
# A backslash with a bracket, a weight with its closing bracket, other brackets, and the text between these.
_WEIGHTS = re.compile(rf"\\[()\[\]\\]?|:\s*(?P<weight>{_NUMBER})\s*\)|[()\[\]:]|[^\\()\[\]:]+")
_EDITS = re.compile(r"\\.?|[()\[\]:|]|[^\\()\[\]:|]+", re.DOTALL)
_STEP = re.compile(rf"\s*{_NUMBER}\s*")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
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
        found[-1].append(fragment._replace(text=first))
        found += [[fragment._replace(text=each)] for each in others]
    return [_merged(each) for each in found]


def texts_of_steps(text: str, syntax: str, num_steps: int) -> list[str]:
    """The prompt of each step, without `[from:to:when]` and `[a|b]`."""
    tokens = _EDITS.findall(text) if syntax == A1111 else []
    if "[" not in tokens or not {":", "|"} & set(tokens):
        return [text] * num_steps
    return [_at_step(tokens, step, num_steps) for step in range(1, num_steps + 1)]


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


@dataclass(slots=True)
class _Bracket:
    """The parts of a bracket that is not closed yet, and the separators between them, `:` or `|`."""

    opening: str
    parts: list[list[str]] = field(default_factory=lambda: [[]])
    separators: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.parts[-1].append(text)

    def text(self) -> str:
        first, *others = ["".join(part) for part in self.parts]
        return self.opening + first + "".join(map(str.__add__, self.separators, others))

    def at_step(self, closing: str, step: int, num_steps: int) -> str:
        """Its text in one step, the first of which is 1."""
        parts = ["".join(part) for part in self.parts]
        if closing == "]" and "|" in self.separators:
            if ":" not in self.separators:
                return parts[(step - 1) % len(parts)]
        elif closing == "]" and len(parts) in (2, 3) and _STEP.fullmatch(parts[-1]):
            when = float(parts[-1]) * (num_steps if "." in parts[-1] else 1)
            before, after = ["", *parts[:-1]][-2:]
            return before if step <= int(min(when, num_steps)) else after
        return self.text() + closing


def _at_step(tokens: list[str], step: int, num_steps: int) -> str:
    brackets = [_Bracket("")]
    for token in tokens:
        innermost = brackets[-1]
        if token in ("(", "[") and len(brackets) < MAX_DEPTH:
            brackets.append(_Bracket(token))
        elif token in _OPENING and innermost.opening == _OPENING[token]:
            brackets.pop()
            brackets[-1].add(innermost.at_step(token, step, num_steps))
        elif token in (":", "|"):
            innermost.separators.append(token)
            innermost.parts.append([])
        else:
            innermost.add(token)
    return "".join(bracket.text() for bracket in brackets)  # unclosed brackets are text
