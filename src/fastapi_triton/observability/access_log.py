# SPDX-License-Identifier: Apache-2.0
"""The access log: one line for each request, without bodies, headers or secrets. Prompts need `access_log_prompts`."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi_triton.core.context import current_caller
from fastapi_triton.core.errors import shortened
from fastapi_triton.core.request_record import STAGES, RequestRecord

logger = logging.getLogger("fastapi_triton.access")
# In characters. A path may be as long as a request's head.
_MAX_PATH = 500


def write(record: RequestRecord) -> None:
    """Log a request that has ended. Formatters can use the fields as members."""
    stages = {f"{stage}_ms": round(1000 * each, 1) for stage, each in zip(STAGES, record.seconds, strict=True)}
    fields: dict[str, Any] = {
        "method": record.method,
        "path": shortened(record.path.decode("ascii", "replace"), _MAX_PATH),
        "route": record.route,
        "status": record.status,
        "code": record.code or "ok",
        "duration_ms": round(1000 * record.total_s, 1),
        **stages,
        "received_bytes": record.received_bytes,
        "sent_bytes": record.sent_bytes,
        "model": record.model,
        "caller": current_caller.get().name,
    }
    if record.texts is not None:
        fields["texts"] = dict(record.texts)
    logger.info("%s", _Words(fields), extra={"fields": fields})


class _Words:
    """The fields as a text line, made when a formatter needs it."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def __str__(self) -> str:
        rest = dict(self._fields)
        method, path, _, status, code, duration_ms = (rest.pop(name) for name in _FIRST)
        rest_text = " ".join(f"{name}={value!r}" for name, value in rest.items() if value != "")
        return f"{method} {path} {status} {code} {duration_ms} ms {rest_text}"


_FIRST = ("method", "path", "route", "status", "code", "duration_ms")
