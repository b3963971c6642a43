# SPDX-License-Identifier: Apache-2.0
"""The problems of one value of a request, each with its location in the value."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from fastapi_triton.core.wrong_values import described
from fastapi_triton.endpoints import images

Location = tuple[int | str, ...]

# A longer list does not help a client, and a body may have a million problems.
MAX_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class ValueProblem:
    """`location` is the path from the value to the wrong part. `reason` continues a sentence about that part, such as
    "is 5; it must be text"."""

    location: Location
    code: str
    reason: str


class InvalidValueError(ValueError):
    """A value cannot become a tensor. Lists every reason, up to `MAX_PROBLEMS`."""

    def __init__(self, problems: Iterable[ValueProblem]) -> None:
        self.problems = list(itertools.islice(problems, MAX_PROBLEMS))
        super().__init__("; ".join(each.reason for each in self.problems))

    def details(self, *location: int | str) -> list[ErrorDetails]:
        """The problems in pydantic's form; `location` is the path from the body to the value."""
        return [
            ErrorDetails(type=each.code, loc=(*location, *each.location), msg=each.reason, input=...)
            for each in self.problems
        ]


def invalid_value(code: str, reason: str, location: Location = ()) -> InvalidValueError:
    """The error for a single problem."""
    return InvalidValueError([ValueProblem(location, code, reason)])


def from_base64(text: Any, location: Location = ()) -> bytes:
    """The bytes of base64 text.

    Raises:
        InvalidValueError: it is not base64 text; `location` is the text's path within the value.
    """
    if not isinstance(text, str):
        raise invalid_value("wrong_type", f"is {described(text)}; it must be base64 text", location)
    try:
        return images.decode(text)
    except ValueError as error:
        raise invalid_value("invalid_base64", f"is not base64: {error}", location) from None
