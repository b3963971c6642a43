# SPDX-License-Identifier: Apache-2.0
"""Rules and findings. A rule is a function from its subject to one sentence per finding."""

import enum
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")
Find = Callable[[S], Iterable[str]]


class Severity(enum.StrEnum):
    """error: Triton refuses the model, or requests must fail. warning: advice. note: information.

    Errors fail the check, and with `--strict` warnings do too.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


ERROR, WARNING, NOTE = Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a rule. `waived` is the reason of its waiver in the model's config, if any."""

    code: str
    severity: Severity
    where: str
    detail: str
    advice: str
    waived: str | None = None

    def is_problem(self, *, is_strict: bool) -> bool:
        """Whether it makes the check fail."""
        return self.waived is None and (self.severity is ERROR or (is_strict and self.severity is WARNING))


@dataclass(frozen=True, slots=True)
class Rule(Generic[S]):
    """A rule with a stable code.

    Args:
        reason: why it matters, for the docs.
        advice: what to do, for the docs and the table of findings.
        find: yields one sentence per finding.
    """

    code: str
    severity: Severity
    reason: str
    advice: str
    find: Find[S]

    def findings(self, subject: S, where: str) -> list[Finding]:
        return [Finding(self.code, self.severity, where, detail, self.advice) for detail in self.find(subject)]


class Rules(Generic[S]):
    """The rules for one kind of subject, in the order of the docs."""

    def __init__(self) -> None:
        self.all: list[Rule[S]] = []

    def add(self, code: str, severity: Severity, *, advice: str) -> Callable[[Find[S]], Find[S]]:
        """Decorator: makes a rule of the function, whose docstring is the reason."""

        def keep(find: Find[S]) -> Find[S]:
            reason = " ".join((inspect.getdoc(find) or "").split())
            self.all.append(Rule(code, severity, reason, advice, find))
            return find

        return keep

    def findings(self, subject: S, where: str) -> list[Finding]:
        """The findings of all these rules."""
        return [each for rule in self.all for each in rule.findings(subject, where)]
