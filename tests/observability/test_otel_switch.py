# SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry's own switch is heeded: who turns its SDK off pays nothing for it."""

import pytest

from fastapi_triton.observability import tracing


@pytest.mark.parametrize(("said", "traces"), [("", True), ("false", True), ("true", False), ("TRUE", False)])
def test_nothing_is_traced_where_the_sdk_is_disabled(said: str, traces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", said)
    assert tracing.telemetry()["tracing"] is traces
