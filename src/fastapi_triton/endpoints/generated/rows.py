# SPDX-License-Identifier: Apache-2.0
"""A JSON body → its rows: the arrays of each object in it, by input. Every problem of the body is in one error."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
from pydantic_core import ErrorDetails

from fastapi_triton.core.errors import FieldProblem, invalid_request, pointer
from fastapi_triton.endpoints import json_codec
from fastapi_triton.endpoints.generated import sequences
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.endpoints.request_body import json_text, large_json, validation
from fastapi_triton.endpoints.value_errors import InvalidValueError
from fastapi_triton.triton.model_config import ModelConfig

# The check stops at this number of problems.
_ENOUGH_PROBLEMS = 1000

Row = Mapping[str, npt.NDArray[Any]]


def parse(body: bytes, limits: ImageLimits) -> Any:
    """The JSON value of a body.

    Raises:
        UnreadableRequestError: it is not JSON.
        InvalidRequestError: an object has a member twice.
        TooLargeError: the number of values exceeds its limit.
    """
    validation.require_few_elements(body, limits.max_elements)
    large_json.require_cheap(body, limits.max_text_bytes)
    value = json_text.parse(body)
    json_text.require_unique_members(body, _num_members(value))
    return value


def _num_members(value: Any) -> int:
    """The least number of members in a body's objects: rows, and objects that hold arrays."""
    if isinstance(value, list):
        return sum(map(_num_members, value))
    if not isinstance(value, dict):
        return 0
    return len(value) + sum(len(each) for each in value.values() if isinstance(each, dict))


class RowReader:
    """Reads the objects of a request to one model. `left_out` are inputs that it rejects, each with the reason."""

    def __init__(self, config: ModelConfig, left_out: Mapping[str, str]) -> None:
        self._config = config
        self._left_out = left_out
        self._names = [tensor.name for tensor in config.inputs]
        self._fields = [*self._names, *(sequences.FIELDS if config.sequences is not None else ())]

    def read(self, values: Sequence[Any], limits: ImageLimits, *, is_batch: bool) -> list[Row]:
        """The arrays of each object.

        Raises:
            InvalidRequestError: objects do not fit the config; every problem is listed.
            TooLargeError: a picture exceeds its limit.
        """
        rows: list[Row] = []
        details: list[ErrorDetails] = []
        for index, value in enumerate(values):
            location = (index,) if is_batch else ()
            self._require_few_members(value, location)
            if len(details) > _ENOUGH_PROBLEMS:
                break
            row, problems = self._row(value, location, limits)
            rows.append(row)
            details += problems
        if details:
            raise validation.invalid(details, self._fields)
        self._require_input(rows)
        return rows

    def _row(self, value: Any, location: tuple[int, ...], limits: ImageLimits) -> tuple[Row, list[ErrorDetails]]:
        """The arrays of one object, by input, and the object's problems."""
        if not isinstance(value, dict):
            return {}, [ErrorDetails(type="model_type", loc=location, msg="", input=value)]
        row: dict[str, npt.NDArray[Any]] = {}
        problems: list[ErrorDetails] = []
        for tensor in self._config.inputs:
            if tensor.name in value:
                try:
                    row[tensor.name] = json_codec.decode(value[tensor.name], tensor, limits)
                except InvalidValueError as error:
                    problems += error.details(*location, tensor.name)
            elif not tensor.optional:
                problems.append(ErrorDetails(type="missing", loc=(*location, tensor.name), msg="", input=...))
        unknown = value.keys() - self._config.inputs_by_name.keys()
        if self._config.sequences is not None:
            problems += sequences.problems(value, self._config.sequences)
            unknown -= {*sequences.FIELDS}
        problems += [self._unknown((*location, name), name) for name in value if name in unknown]
        return row, problems

    def _unknown(self, location: tuple[int | str, ...], name: str) -> ErrorDetails:
        if (reason := self._left_out.get(name)) is None:
            return ErrorDetails(type="extra_forbidden", loc=location, msg="", input=...)
        return ErrorDetails(type="unsupported_parameter", loc=location, msg=f"{reason}. Omit it", input=...)

    def _require_few_members(self, value: Any, location: tuple[int, ...]) -> None:
        """Reject very many unknown members at once: an error for each of 100,000 would take seconds."""
        num_known = len(self._names)
        if isinstance(value, dict) and len(value) > num_known + _ENOUGH_PROBLEMS:
            known = ", ".join(f"`{name}`" for name in self._names)
            detail = f"The object has {len(value):,} members; this model has {num_known} inputs: {known}."
            raise invalid_request([FieldProblem(pointer(location), "unknown_field", detail)])

    def _require_input(self, rows: Sequence[Row]) -> None:
        if not any(rows):
            names = ", ".join(f"`{name}`" for name in self._names)
            detail = f"The request has no inputs. All are optional, but Triton needs at least one of {names}."
            raise invalid_request([FieldProblem("#", "missing_field", detail)])
