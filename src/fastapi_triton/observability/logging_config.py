# SPDX-License-Identifier: Apache-2.0
"""The log formats of `fastapi-triton serve`: text lines, or one JSON object a line, with the request's id.

Models, clients and other servers write parts of these lines. Both formats escape characters that could forge another
line or control a terminal. Use these functions for all such text that people see.
"""

import json
import logging
import sys
import time
import traceback
from typing import Any

import orjson

from fastapi_triton.core.context import current_request_id
from fastapi_triton.core.settings import Settings
from fastapi_triton.observability import access_log

# Only records begin in the first column.
_CONTINUED = "\n    "


def printable(text: str) -> str:
    """The text on one line: line breaks, terminal escapes and other invisible characters are escaped as in Python."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable_lines(text: str) -> str:
    """The same, but line breaks and tabs are kept."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def printable_json(value: Any, *, indent: int | None = None) -> str:
    """JSON without invisible characters: text that has one is escaped to ASCII."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text if text == printable_lines(text) else json.dumps(value, indent=indent)


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


class TextFormatter(logging.Formatter):
    """`2026-11-22T10:42:33.123Z INFO    triton: loading: model:1 [request id]`

    Further lines of a message, and a traceback, are indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        request_id = current_request_id.get()
        text = record.getMessage() + (f" [{request_id}]" if request_id else "")
        if record.exc_info:
            text += f"\n{_trace(record)}"
        if not text.isprintable():
            text = printable_lines(text).replace("\n", _CONTINUED)
        return f"{_timestamp(record)} {record.levelname:<7} {record.name}: {text}"


class JSONFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, `request_id`, `traceback`."""

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
        try:
            text = orjson.dumps(line).decode()
        except orjson.JSONEncodeError:  # half a surrogate pair, which UTF-8 cannot encode
            return printable_json(line)
        return text if text.isprintable() else printable_json(line)


def configure(settings: Settings) -> None:
    """Write all loggers to standard error in the chosen format."""
    logging.basicConfig(level=settings.log_level.upper(), handlers=[_handler(settings)], force=True)


def open_access_log(settings: Settings) -> None:
    """Make the access log work without a logging configuration too, as under plain uvicorn."""
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
