# SPDX-License-Identifier: Apache-2.0
"""The API key in a request's headers, and the 401 response if it is missing or invalid."""

import binascii
from collections.abc import Iterable

from fastapi_triton.core.errors import UnauthorizedError

Headers = Iterable[tuple[bytes, bytes]]

_REALM = 'realm="fastapi-triton"'
_REASONS = {
    "missing_key": "This request needs an API key.",
    "unknown_key": "This API key is unknown.",
    "expired_key": "This API key has expired.",
}
_HOW = "Send a key as `Authorization: Bearer <key>`, as `X-API-Key: <key>`, or as the password of HTTP Basic."


def find_key(headers: Headers) -> bytes | None:
    """The key in these headers; None if there is none.

    `X-API-Key` has precedence over `Authorization`, which a proxy may use for itself. A malformed header counts as an
    unknown key.
    """
    authorization = None
    for name, value in headers:
        if name == b"x-api-key":
            return value
        if name == b"authorization" and authorization is None:
            authorization = value
    if authorization is None:
        return None
    scheme, _, rest = authorization.partition(b" ")
    kind = scheme.lower()
    if kind == b"bearer":
        return rest.strip()
    return _password(rest) if kind == b"basic" else b""


def _password(encoded: bytes) -> bytes:
    """The key in HTTP Basic's credentials: the password, or the user name if the password is empty."""
    try:
        user, _, password = binascii.a2b_base64(encoded.strip(), strict_mode=True).partition(b":")
    except binascii.Error:
        return b""
    return password or user


def refusal(headers: Headers, code: str) -> UnauthorizedError:
    """The 401 error for one of the codes above."""
    challenges = [f"Bearer {_REALM}" if code == "missing_key" else f'Bearer {_REALM}, error="invalid_token"']
    mode = next((value for name, value in headers if name == b"sec-fetch-mode"), b"navigate")
    if mode == b"navigate":
        # Basic makes the browser ask the user for a key; scripts do that in their own way. Basic comes first, since
        # Chromium reads only the first challenge of a header.
        challenges.insert(0, f'Basic {_REALM}, charset="UTF-8"')
    return UnauthorizedError(f"{_REASONS[code]} {_HOW}", code=code, challenges=challenges)
