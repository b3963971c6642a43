# SPDX-License-Identifier: Apache-2.0
"""Traces: which of FastAPI's own OpenTelemetry is on."""

import importlib.util
import os

from fastapi.telemetry import TelemetryConfig

from fastapi_triton.core import paths

# Polled all the time, and of no interest in a trace.
_UNTRACED = (f"{paths.HEALTH}/", paths.METRICS)


def is_disabled() -> bool:
    """Whether OpenTelemetry's own variable turns its SDK off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"


def telemetry() -> TelemetryConfig:
    """FastAPI's own traces, configured by the standard `OTEL_*` variables; what else it has for OpenTelemetry is off.

    Where nobody can have configured a tracer they are off, too: FastAPI would look at every request whether one has.
    """
    return {
        "tracing": importlib.util.find_spec("opentelemetry.sdk") is not None and not is_disabled(),
        "auto_configure": True,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "exclude": lambda scope: scope["path"].removeprefix(scope.get("root_path", "")).startswith(_UNTRACED),
    }
