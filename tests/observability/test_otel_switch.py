# SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry's own switch, `OTEL_SDK_DISABLED`, turns tracing off."""

import pytest

from fastapi_triton.observability import tracing


@pytest.mark.parametrize(("value", "traces"), [("", True), ("false", True), ("true", False), ("TRUE", False)])
def test_nothing_is_traced_if_the_sdk_is_disabled(value: str, traces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", value)
    assert tracing.telemetry()["tracing"] is traces
