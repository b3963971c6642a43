# SPDX-License-Identifier: Apache-2.0
"""The options in a request's URL. FastAPI would ignore unknown ones, and all but the last of a repeated one."""

from collections import Counter
from collections.abc import Collection
from urllib.parse import parse_qsl

from starlette.types import Scope

from fastapi_triton.core.errors import invalid_field, shown
from fastapi_triton.core.suggestions import nearest


def read(scope: Scope, known: Collection[str] = ()) -> dict[str, str]:
    """The options of a query by name.

    Raises:
        InvalidRequestError: an option is unknown or repeated.
    """
    query: bytes = scope.get("query_string", b"")
    if not query:
        return {}
    options = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    for name, count in Counter(name for name, _ in options).items():
        if name not in known:
            detail = f"There is no query option `{shown(name)}`{nearest(name, known) or '; send fields in the body'}"
            raise invalid_field(name, "unsupported_parameter", detail if detail.endswith("?") else f"{detail}.")
        if count > 1:
            raise invalid_field(name, "repeated_field", f"The query has `{name}` {count} times. Send it once.")
    return dict(options)
