# SPDX-License-Identifier: Apache-2.0
"""Log lines as text and as JSON, with the request's id."""

import json
import logging
import sys

import pytest

from fastapi_triton.core.context import current_request_id
from fastapi_triton.observability.logging_config import JSONFormatter, TextFormatter


@pytest.fixture
def record() -> logging.LogRecord:
    try:
        raise ValueError("why")
    except ValueError:
        return logging.LogRecord("triton", logging.WARNING, __file__, 1, "loaded %s", ("m",), sys.exc_info())


async def test_text_is_one_line_followed_by_the_traceback(record: logging.LogRecord) -> None:
    current_request_id.set("abc")
    first, *rest = TextFormatter().format(record).splitlines()
    assert first.endswith("WARNING triton: loaded m [abc]")
    assert rest[-1] == "    ValueError: why"


async def test_json_is_one_object_per_line(record: logging.LogRecord) -> None:
    current_request_id.set("abc")
    line = JSONFormatter().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["level"], entry["logger"], entry["message"], entry["request_id"]) == (
        "warning",
        "triton",
        "loaded m",
        "abc",
    )
    assert "ValueError: why" in entry["traceback"]
