# SPDX-License-Identifier: Apache-2.0
"""Rules over waivers: `parameters { key: "waive.CODE" value { string_value: "the reason" } }` in a model's config."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fastapi_triton.cli.check.rule import NOTE, WARNING, Rules
from fastapi_triton.core.suggestions import nearest


@dataclass(frozen=True, slots=True)
class Waivers:
    """A model's waivers (code → reason); the codes that were found in it, that were looked for, and all there are.

    For example, without the model's folder the rules about its files are not looked for.
    """

    reasons: Mapping[str, str]
    found: frozenset[str]
    looked_for: frozenset[str]
    known: frozenset[str]


RULES: Rules[Waivers] = Rules()


@RULES.add("waiver-unknown", WARNING, advice="Correct the name, or take it out.")
def waiver_unknown(waivers: Waivers) -> Iterator[str]:
    """A waiver for a rule that does not exist waives nothing."""
    for code in waivers.reasons:
        if code not in waivers.known:
            yield f"there is no rule {code}{nearest(code, sorted(waivers.known))}"


@RULES.add("waiver-without-reason", WARNING, advice="Write the reason into its string_value.")
def waiver_without_reason(waivers: Waivers) -> Iterator[str]:
    """Who reads the config next must be able to judge whether the reason still holds. Without one the waiver does not
    count."""
    for code, reason in waivers.reasons.items():
        if not reason:
            yield f"waive.{code} gives no reason"


@RULES.add("waiver-unused", NOTE, advice="Take it out.")
def waiver_unused(waivers: Waivers) -> Iterator[str]:
    """The rule finds nothing any more, so its waiver would hide the next finding."""
    for code in waivers.reasons:
        if code in waivers.looked_for and code not in waivers.found:
            yield f"waive.{code} waives nothing"
