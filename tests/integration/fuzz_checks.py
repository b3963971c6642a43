# SPDX-License-Identifier: Apache-2.0
"""Further checks of every response for schemathesis, used by `test_fuzz.py`."""

from typing import Any

import schemathesis

# These models fail on certain inputs, which fuzzing finds.
FAILING = ("/models/failing/", "/models/repeat/", "/models/repeat_batched/")


@schemathesis.check
def never_a_bug(ctx: Any, response: Any, case: Any) -> None:
    """No 500, and 502 only from models that fail on purpose."""
    assert response.status_code != 500, "a bug of the frontend"
    if response.status_code >= 501:
        assert response.status_code == 502, f"{response.status_code} although Triton is ready"
        assert case.operation.path.startswith(FAILING), "the model failed on a request that the frontend accepted"


@schemathesis.check
def errors_are_problems(ctx: Any, response: Any, case: Any) -> None:
    """Every error is a problem object with a code and a detail."""
    if response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"]
        problem = response.json()
        assert problem["code"]
        assert problem["detail"]
