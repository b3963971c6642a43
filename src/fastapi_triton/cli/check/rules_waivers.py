# SPDX-License-Identifier: Apache-2.0
"""Rules over waivers: `parameters { key: "waive.CODE" value { string_value: "the reason" } }` in a model's config."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fastapi_triton.cli.check.rule import NOTE, WARNING, Rules
from fastapi_triton.core.suggestions import nearest


@dataclass(frozen=True, slots=True)
class Waivers:
    """The waivers of one model.

    Args:
        reasons: rule code → reason.
        found: the codes of its findings.
        applied: the codes of the rules that ran. Without the model's folder, rules over its files do not run.
        known: all rule codes.
    """

    reasons: Mapping[str, str]
    found: frozenset[str]
    applied: frozenset[str]
    known: frozenset[str]


RULES: Rules[Waivers] = Rules()


@RULES.add("waiver-unknown", WARNING, advice="Correct the name, or remove it.")
def waiver_unknown(waivers: Waivers) -> Iterator[str]:
    """A waiver for an unknown rule has no effect."""
    for code in waivers.reasons:
        if code not in waivers.known:
            yield f"there is no rule {code}{nearest(code, sorted(waivers.known))}"


@RULES.add("waiver-without-reason", WARNING, advice="Write the reason into its string_value.")
def waiver_without_reason(waivers: Waivers) -> Iterator[str]:
    """A waiver counts only with a reason that readers can judge."""
    for code, reason in waivers.reasons.items():
        if not reason:
            yield f"waive.{code} has no reason"


@RULES.add("waiver-unused", NOTE, advice="Remove the waiver.")
def waiver_unused(waivers: Waivers) -> Iterator[str]:
    """The rule finds nothing; a future finding would be hidden."""
    for code in waivers.reasons:
        if code in waivers.applied and code not in waivers.found:
            yield f"waive.{code} waives nothing"
