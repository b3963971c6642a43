# SPDX-License-Identifier: Apache-2.0
"""One line for each request, without bodies or headers: prompts only where `access_log_prompts` asks, no secrets."""

import logging
from typing import Any

from fastapi_triton.callers import current_caller
from fastapi_triton.observation import STAGES, Observation

logger = logging.getLogger("fastapi_triton.access")


def write(seen: Observation) -> None:
    """Log a request that has ended. The fields are there for formatters that make members of them."""
    stages = {f"{stage}_ms": round(1000 * each, 1) for stage, each in zip(STAGES, seen.seconds, strict=True)}
    fields: dict[str, Any] = {
        "method": seen.method,
        "path": seen.path.decode("ascii", "replace"),
        "route": seen.route,
        "status": seen.status,
        "code": seen.code or "ok",
        "duration_ms": round(1000 * seen.total_s, 1),
        **stages,
        "received_bytes": seen.received_bytes,
        "sent_bytes": seen.sent_bytes,
        "model": seen.model,
        "caller": current_caller.get().name,
    }
    if seen.texts is not None:
        fields["texts"] = dict(seen.texts)
    rest = " ".join(f"{name}={value!r}" for name, value in fields.items() if name not in _IN_WORDS and value != "")
    logger.info(
        "%s %s %d %s %.1f ms %s",
        *(fields[name] for name in _IN_WORDS if name != "route"),
        rest,
        extra={"fields": fields},
    )


_IN_WORDS = ("method", "path", "route", "status", "code", "duration_ms")
