# SPDX-License-Identifier: Apache-2.0
"""How `fastapi-triton serve` logs: lines for people, or one JSON object a line; each with the request's id."""

import logging
import sys
import time
import traceback
from typing import Any

import orjson

from fastapi_triton import access_log
from fastapi_triton.middleware.request_id import current_request_id
from fastapi_triton.settings import Settings


class TextFormatter(logging.Formatter):
    """`2026-11-22T10:42:33.123Z INFO    triton: loading: model:1 [request id]`"""

    def format(self, record: logging.LogRecord) -> str:
        request_id = current_request_id.get()
        line = f"{_timestamp(record)} {record.levelname:<7} {record.name}: {record.getMessage()}"
        line += f" [{request_id}]" if request_id else ""
        return f"{line}\n{_trace(record)}" if record.exc_info else line


class JSONFormatter(logging.Formatter):
    """One object a line: `time`, `level`, `logger`, `message`, `request_id`, `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})  # of an access line
        if request_id := current_request_id.get():
            line["request_id"] = request_id
        if record.exc_info:
            line["traceback"] = _trace(record)
        return orjson.dumps(line).decode()


def configure(settings: Settings) -> None:
    """Send every logger's lines to standard error in the chosen format."""
    logging.basicConfig(level=settings.log_level.upper(), handlers=[_handler(settings)], force=True)


def open_access_log(settings: Settings) -> None:
    """Have access lines written where nobody has configured logging, too: under plain uvicorn."""
    access_log.logger.setLevel(logging.INFO)
    if not access_log.logger.hasHandlers():
        access_log.logger.addHandler(_handler(settings))


def _handler(settings: Settings) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter() if settings.log_format == "json" else TextFormatter())
    return handler


def _timestamp(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03d}Z"


def _trace(record: logging.LogRecord) -> str:
    return "".join(traceback.format_exception(*record.exc_info)).rstrip() if record.exc_info else ""
