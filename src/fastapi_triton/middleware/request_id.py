# SPDX-License-Identifier: Apache-2.0
"""The id of a request: the caller's `X-Request-ID`, or a new one. It goes to the log, to Triton and back."""

import os
import re
from contextvars import ContextVar

HEADER = "X-Request-ID"
NAME = HEADER.lower().encode()
# What a caller may choose: it ends up in logs and headers.
_ALLOWED = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")


def choose(asked: bytes) -> str:
    """The id that the caller asks for, where it is fit for one."""
    return asked.decode() if asked and _ALLOWED.fullmatch(asked) else os.urandom(16).hex()
