# SPDX-License-Identifier: Apache-2.0
"""Converts a user's JSON requests to aiperf's records: one JSON object a line."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from fastapi_triton.cli.perf.aiperf import Endpoint
from fastapi_triton.cli.perf.tool import PerfError

Request = Mapping[str, Any]


def lines(requests: Sequence[Request], endpoint: Endpoint) -> bytes:
    """The records of these requests, which aiperf sends in turn.

    Raises:
        PerfError: OpenAI's endpoint needs a member that a request lacks.
    """
    return b"".join(orjson.dumps(_record(each, endpoint), option=orjson.OPT_APPEND_NEWLINE) for each in requests)


def _record(request: Request, endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.kind == "template":
        return {"text": "request", "extra": request}
    members = dict(request)
    record: dict[str, Any] = {"text": _required(members, "prompt", endpoint)}
    if endpoint.kind == "image-edit":
        image = _required(members, "image", endpoint)
        record["image"] = image if image.startswith("data:") else f"data:image/png;base64,{image}"
    return {**record, "extra": members} if members else record


def _required(members: dict[str, Any], name: str, endpoint: Endpoint) -> str:
    value = members.pop(name, None)
    if not isinstance(value, str):
        raise PerfError(f"Requests to {endpoint.path} need `{name}` as text.")
    return value
