# SPDX-License-Identifier: Apache-2.0
"""Error responses: problem objects, RFC 9457."""

from typing import Any

import httpx2


def problem_of(answer: httpx2.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem
