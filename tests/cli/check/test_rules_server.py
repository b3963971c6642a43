# SPDX-License-Identifier: Apache-2.0
"""Rules for a running Triton, applied to example facts."""

from dataclasses import replace
from typing import Any

import pytest

from fastapi_triton import Settings
from fastapi_triton.cli.check import rules_server
from fastapi_triton.cli.check.rules_server import Output, ServedModel, ServerFacts, Trial
from fastapi_triton.triton.model_config import from_server

FACTS = ServerFacts("2.59.0", has_shared_memory=True, trace_mode="opentelemetry")
RAW = {
    "name": "m",
    "max_batch_size": 8,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [-1, 3]}],
}
MODEL = ServedModel(
    "m",
    is_dead=False,
    raw=RAW,
    settings=Settings(request_timeout_s=60),
    text=from_server(RAW),
    mean_s=30.0,
    trial=Trial((Output("y", "FP32", (1, 7, 3)),)),
)
SERVER_CASES = [
    ("no-is-cancelled", {"version": "2.38.0"}, {"version": "2.39.0"}),
    ("no-response-sender", {"version": "2.46.0"}, {"version": "2.47.0"}),
    ("cancel-may-crash", {"version": "2.58.1dev"}, {"version": "3.0.0"}),
    ("shared-memory-off", {"has_shared_memory": False}, {}),
    ("trace-context-lost", {"trace_mode": "triton"}, {}),
    ("trace-context-lost", {"trace_mode": ""}, {}),
]


def trial(*outputs: Output) -> dict[str, Any]:
    return {"trial": Trial(outputs)}


MODEL_CASES = [
    ("dead-stub", {"is_dead": True}, {"is_dead": True, "raw": None}),
    ("not-loaded", {"raw": None}, {}),
    ("config-differs", {"text": replace(from_server(RAW), max_batch_size=4)}, {}),
    ("config-differs", {"text": replace(from_server(RAW), inputs=())}, {"text": None}),
    ("slow-model", {"mean_s": 30.1}, {}),
    ("compressed-reply", {"content_encoding": "gzip"}, {"content_encoding": "identity"}),
    ("reply-mismatch", trial(), {"trial": None}),
    ("reply-mismatch", trial(Output("y", "FP64", (1, 7, 3))), {"trial": Trial(rejection="no")}),
    ("reply-mismatch", trial(Output("y", "FP32", (7, 3))), {}),
    ("reply-mismatch", trial(Output("y", "FP32", (1, 7, 2))), trial(Output("y", "FP32", (1, 1, 3)))),
    ("trial-refused", {"trial": Trial(rejection="not like this")}, {}),
]


def test_every_rule_has_a_case() -> None:
    assert {code for code, _, _ in SERVER_CASES} == {rule.code for rule in rules_server.RULES.all}
    assert {code for code, _, _ in MODEL_CASES} == {rule.code for rule in rules_server.MODEL_RULES.all}


@pytest.mark.parametrize(("code", "broken", "fine"), SERVER_CASES)
def test_a_rule_for_the_server_finds_only_the_broken_case(
    code: str, broken: dict[str, Any], fine: dict[str, Any]
) -> None:
    (rule,) = (each for each in rules_server.RULES.all if each.code == code)
    assert rule.findings(replace(FACTS, **broken), "Triton")
    assert rule.findings(replace(FACTS, **fine), "Triton") == []


@pytest.mark.parametrize(("code", "broken", "fine"), MODEL_CASES)
def test_a_rule_for_a_served_model_finds_only_the_broken_case(
    code: str, broken: dict[str, Any], fine: dict[str, Any]
) -> None:
    (rule,) = (each for each in rules_server.MODEL_RULES.all if each.code == code)
    assert rule.findings(replace(MODEL, **broken), "m")
    assert rule.findings(replace(MODEL, **fine), "m") == []


def test_a_server_without_problems_has_no_findings() -> None:
    assert rules_server.RULES.findings(FACTS, "Triton") == rules_server.MODEL_RULES.findings(MODEL, "m") == []
