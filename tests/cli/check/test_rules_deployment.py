# SPDX-License-Identifier: Apache-2.0
"""Rules for the frontend's settings, an app's declarations, and waivers."""

from typing import Any

import pytest
from pydantic import BaseModel

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.cli.check import rules_declarations, rules_deployment, rules_waivers
from fastapi_triton.cli.check.rule import Rules
from fastapi_triton.cli.check.rules_declarations import Declared
from fastapi_triton.cli.check.rules_deployment import ModelWithSettings
from fastapi_triton.cli.check.rules_waivers import Waivers
from fastapi_triton.triton.datatypes import BY_CONFIG
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig

MIB = 1024 * 1024


class Echo(BaseModel):
    text: str


TEXT = (TensorConfig("text", BY_CONFIG["TYPE_STRING"], (1,)),)
ECHO = ModelConfig("echo", 8, TEXT, TEXT)
EVENT = TensorConfig("event", BY_CONFIG["TYPE_STRING"], (1,))
STREAM = ModelConfig("stream", 0, TEXT, (*TEXT, EVENT), decoupled=True)


def with_policy(policy: dict[str, int], **settings: float) -> ModelWithSettings:
    raw = {"dynamic_batching": {"default_queue_policy": policy}}
    return ModelWithSettings(raw, Settings(**settings))  # type: ignore[arg-type]


def declared(
    model: str, *known: ModelConfig, stream_model: str | None = None, response: type[BaseModel] = Echo
) -> Declared:
    app = TritonFrontend()
    endpoint = app.infer("/echo", model=model, stream_model=stream_model, request=Echo, response=response)
    return Declared(endpoint.declaration, {each.name: each for each in known})


class Other(BaseModel):
    label: str


CASES = [
    (
        rules_deployment.SETTINGS_RULES,
        "body-limit",
        Settings(max_body_bytes=49 * MIB),
        Settings(max_body_bytes=48 * MIB),
    ),
    (
        rules_deployment.RULES,
        "admission-over-queue",
        with_policy({"max_queue_size": 32}, max_in_flight=32),
        with_policy({"max_queue_size": 33}, max_in_flight=32),
    ),
    (
        rules_deployment.RULES,
        "client-timeout",
        with_policy({"default_timeout_microseconds": 60_000_000}, request_timeout_s=60),
        with_policy({"default_timeout_microseconds": 59_000_000}, request_timeout_s=60),
    ),
    (
        rules_deployment.RULES,
        "client-timeout",
        with_policy({"default_timeout_microseconds": 60_000_000}, request_timeout_s=60),
        with_policy({"default_timeout_microseconds": 60_000_000, "allow_timeout_override": True}, request_timeout_s=60),
    ),
    (rules_declarations.RULES, "unknown-model", declared("ecko", ECHO), declared("echo", ECHO)),
    (rules_declarations.RULES, "unknown-model", declared("echo", ECHO, stream_model="streem"), declared("echo", ECHO)),
    (rules_declarations.RULES, "contract-mismatch", declared("echo", ECHO, response=Other), declared("echo", ECHO)),
    (
        rules_declarations.RULES,
        "contract-mismatch",
        declared("echo", ECHO, ECHO, stream_model="echo"),
        declared("echo", ECHO, STREAM, stream_model="stream"),
    ),
    (rules_declarations.RULES, "decoupled-over-infer", declared("stream", STREAM), declared("echo", ECHO)),
    (
        rules_waivers.RULES,
        "waiver-unknown",
        Waivers({"no-quue": "why"}, frozenset(), frozenset({"no-queue"}), frozenset({"no-queue"})),
        Waivers({"no-queue": "why"}, frozenset(), frozenset({"no-queue"}), frozenset({"no-queue"})),
    ),
    (
        rules_waivers.RULES,
        "waiver-without-reason",
        Waivers({"no-queue": ""}, frozenset(), frozenset({"no-queue"}), frozenset({"no-queue"})),
        Waivers({"no-queue": "why"}, frozenset(), frozenset({"no-queue"}), frozenset({"no-queue"})),
    ),
    (
        rules_waivers.RULES,
        "waiver-unused",
        Waivers({"no-queue": "why"}, frozenset(), frozenset({"no-queue"}), frozenset({"no-queue"})),
        Waivers({"no-queue": "why"}, frozenset({"no-queue"}), frozenset({"no-queue"}), frozenset({"no-queue"})),
    ),
    (
        rules_waivers.RULES,
        "waiver-unused",
        Waivers({"no-queue": "why"}, frozenset(), frozenset({"no-queue"}), frozenset({"no-queue"})),
        Waivers({"no-queue": "why"}, frozenset(), frozenset(), frozenset({"no-queue"})),  # the rule did not run
    ),
]


def test_every_rule_has_broken_and_fine_cases() -> None:
    covered = {code for _, code, _, _ in CASES}
    families = (rules_deployment.SETTINGS_RULES, rules_deployment.RULES, rules_declarations.RULES, rules_waivers.RULES)
    assert covered == {rule.code for family in families for rule in family.all}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("rules", "code", "broken", "fine"), CASES)
def test_a_rule_finds_the_broken_case_and_nothing_in_the_fine_case(
    rules: Rules[Any], code: str, broken: Any, fine: Any
) -> None:
    (rule,) = (each for each in rules.all if each.code == code)
    assert rule.findings(broken, "m")
    assert rule.findings(fine, "m") == []


def test_a_decoupled_model_is_reported_once() -> None:
    found = rules_declarations.RULES.findings(declared("stream", STREAM), "/echo")
    assert [each.code for each in found] == ["decoupled-over-infer"]


def test_an_unknown_model_is_reported_with_the_nearest_name() -> None:
    (found,) = rules_declarations.RULES.findings(declared("ecko", ECHO), "/echo")
    assert found.detail == "there is no model ecko; did you mean `echo`?"


def test_a_model_without_a_known_config_has_no_findings() -> None:
    app = TritonFrontend()
    endpoint = app.infer("/echo", model="echo", request=Echo, response=Other)
    assert rules_declarations.RULES.findings(Declared(endpoint.declaration, {"echo": None}), "/echo") == []
