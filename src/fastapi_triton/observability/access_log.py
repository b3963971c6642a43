# SPDX-License-Identifier: Apache-2.0
"""One line for each request, without bodies or headers: prompts only where `access_log_prompts` asks, no secrets."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi_triton.core.context import current_caller
from fastapi_triton.core.errors import shortened
from fastapi_triton.core.request_record import STAGES, Observation

logger = logging.getLogger("fastapi_triton.access")
# Characters. A path may be as long as a request's head.
_MAX_PATH = 500


def write(seen: Observation) -> None:
    """Log a request that has ended. The fields are there for formatters that make members of them."""
    stages = {f"{stage}_ms": round(1000 * each, 1) for stage, each in zip(STAGES, seen.seconds, strict=True)}
    fields: dict[str, Any] = {
        "method": seen.method,
        "path": shortened(seen.path.decode("ascii", "replace"), _MAX_PATH),
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
    logger.info("%s", _Words(fields), extra={"fields": fields})


class _Words:
    """The fields as a line for people, written when a formatter asks for it."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def __str__(self) -> str:
        rest = dict(self._fields)
        method, path, _, status, code, duration_ms = (rest.pop(name) for name in _FIRST)
        told = " ".join(f"{name}={value!r}" for name, value in rest.items() if value != "")
        return f"{method} {path} {status} {code} {duration_ms} ms {told}"


_FIRST = ("method", "path", "route", "status", "code", "duration_ms")
