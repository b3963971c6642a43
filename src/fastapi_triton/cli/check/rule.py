# SPDX-License-Identifier: Apache-2.0
"""What a rule is, and what it finds. A rule is a function from what it looks at to one sentence per finding."""

import enum
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")
Find = Callable[[S], Iterable[str]]


class Severity(enum.StrEnum):
    """error: it will not work. warning: it will hurt. note: worth knowing; it fails no check."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


ERROR, WARNING, NOTE = Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found; `waived` is the reason that the model's config gives for leaving it so."""

    code: str
    severity: Severity
    where: str
    detail: str
    advice: str
    waived: str | None = None

    @property
    def is_problem(self) -> bool:
        """Whether it makes the check fail."""
        return self.severity is not NOTE and self.waived is None


@dataclass(frozen=True, slots=True)
class Rule(Generic[S]):
    """A stable code; `reason` says why it matters and `advice` what to do, each in a sentence or two for the docs and
    the table; `find` yields the particulars."""

    code: str
    severity: Severity
    reason: str
    advice: str
    find: Find[S]

    def findings(self, subject: S, where: str) -> list[Finding]:
        return [Finding(self.code, self.severity, where, detail, self.advice) for detail in self.find(subject)]


class Rules(Generic[S]):
    """The rules over one kind of subject, in the order in which they are listed."""

    def __init__(self) -> None:
        self.all: list[Rule[S]] = []

    def add(self, code: str, severity: Severity, *, advice: str) -> Callable[[Find[S]], Find[S]]:
        """Makes a rule of the decorated function, whose docstring is the reason."""

        def keep(find: Find[S]) -> Find[S]:
            reason = " ".join((inspect.getdoc(find) or "").split())
            self.all.append(Rule(code, severity, reason, advice, find))
            return find

        return keep

    def findings(self, subject: S, where: str) -> list[Finding]:
        """What all of them find."""
        return [each for rule in self.all for each in rule.findings(subject, where)]
