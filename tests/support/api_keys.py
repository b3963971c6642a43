# SPDX-License-Identifier: Apache-2.0
"""Three API keys, new in each test run, and how they are displayed."""

import base64

from fastapi_triton.middleware.auth import keys

DRAWS, WATCHES, RULES = (keys.new_secret() for _ in range(3))


def block(name: str, secret: str, *lines: str) -> str:
    """The lines of a key file for one key."""
    return "\n".join([f"[keys.{name}]", f'sha256 = "{keys.digest(secret)}"', *lines, ""])


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
