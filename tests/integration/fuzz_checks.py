# SPDX-License-Identifier: Apache-2.0
"""What schemathesis holds every answer against, beside the OpenAPI document: see `test_fuzz.py`."""

from typing import Any

import schemathesis

# These models fail when they are told to, and fuzzing finds out how.
FAILING = ("/models/failing/", "/models/repeat/", "/models/repeat_batched/")


@schemathesis.check
def never_a_bug(ctx: Any, response: Any, case: Any) -> None:
    """No 500 at all; 502 only where the model fails on purpose."""
    assert response.status_code != 500, "a bug of the frontend"
    if response.status_code >= 501:
        assert response.status_code == 502, f"{response.status_code} while all is well"
        assert case.operation.path.startswith(FAILING), "the model failed on what was let through"


@schemathesis.check
def errors_are_problems(ctx: Any, response: Any, case: Any) -> None:
    """Every refusal is a problem object whose code is told."""
    if response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"]
        told = response.json()
        assert told["code"]
        assert told["detail"]
