# SPDX-License-Identifier: Apache-2.0
"""Error responses: problem objects, RFC 9457."""

from typing import Any

import httpx2


def problem_of(response: httpx2.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem
