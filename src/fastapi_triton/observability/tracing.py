# SPDX-License-Identifier: Apache-2.0
"""Traces: the configuration of FastAPI's OpenTelemetry."""

import importlib.util
import os

from fastapi.telemetry import TelemetryConfig

from fastapi_triton.core import paths

# Polled all the time, and not useful in traces.
_UNTRACED = (f"{paths.HEALTH}/", paths.METRICS)


def is_disabled() -> bool:
    """Whether the variable `OTEL_SDK_DISABLED` turns OpenTelemetry off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"


def telemetry() -> TelemetryConfig:
    """FastAPI's `telemetry` argument: traces, configured by the standard `OTEL_*` variables, without metrics and logs.

    Traces are off too if no tracer can be configured, because FastAPI would check for one at every request.
    """
    return {
        "tracing": importlib.util.find_spec("opentelemetry.sdk") is not None and not is_disabled(),
        "auto_configure": True,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "exclude": lambda scope: scope["path"].removeprefix(scope.get("root_path", "")).startswith(_UNTRACED),
    }
