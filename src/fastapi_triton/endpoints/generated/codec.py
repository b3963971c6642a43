# SPDX-License-Identifier: Apache-2.0
"""The codec of a generated endpoint: a JSON body → input tensors; output tensors → the JSON response.

The body is an object with a member per input. If the model takes batches, it may be a list of such objects. The
response has the same form, with a member per output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic_core import ErrorDetails

from fastapi_triton.core.errors import FieldProblem, InferenceError, invalid_request, pointer
from fastapi_triton.endpoints import json_codec
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.endpoints.json_codec import Arrays
from fastapi_triton.endpoints.request_body import json_text, large_json, validation
from fastapi_triton.endpoints.value_errors import InvalidValueError
from fastapi_triton.triton.generate_codec import unstreamable
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor

# Triton's generate extension reads this member as the request's id.
_RESERVED_IN_STREAMS = "id"
# The check stops at this number of problems.
_ENOUGH_PROBLEMS = 1000

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Inputs:
    """A request's tensors, and the number of rows in its batch. None: it is not a batch."""

    tensors: dict[str, Tensor]
    num_rows: int | None


def takes_batches(config: ModelConfig) -> bool:
    """Whether a request may have several rows. generate_stream takes one, and adds the batch dimension itself."""
    return config.is_batched and not config.decoupled


def obstacles(config: ModelConfig) -> list[str]:
    """The reasons why a model cannot have an endpoint. Most models have none."""
    if config.is_sequence:
        return ["it is a sequence model; its requests need a sequence id, which generated endpoints cannot send"]
    if not config.decoupled:
        return []
    problems = [
        f"`{tensor.name}` is {tensor.datatype.wire} with dims {list(tensor.dims)}; Triton's generate_stream, which "
        "decoupled models need, supports at most one dimension, and neither FP16 nor BF16"
        for tensor in unstreamable(config)
    ]
    if config.input(_RESERVED_IN_STREAMS):
        problems.append(f"its input `{_RESERVED_IN_STREAMS}` has a name that Triton's generate_stream reserves")
    return list(dict.fromkeys(problems))


def _num_members(value: Any) -> int:
    """The least number of members in a body's objects: rows, and objects that hold arrays."""
    if isinstance(value, list):
        return sum(map(_num_members, value))
    if not isinstance(value, dict):
        return 0
    return len(value) + sum(len(each) for each in value.values() if isinstance(each, dict))


class GeneratedModel:
    """One model's endpoint without HTTP. `obstacles` are the reasons why the model cannot have one."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.obstacles = obstacles(config)
        self.takes_batches = takes_batches(config)
        self._names = [tensor.name for tensor in config.inputs]

    def read(self, body: bytes, limits: ImageLimits) -> Inputs:
        """The tensors of a JSON body.

        Raises:
            UnreadableRequestError: it is not JSON.
            InvalidRequestError: it does not fit the config; every problem is listed.
            TooLargeError: a picture or the number of values exceeds its limit.
        """
        validation.require_few_elements(body, limits.max_elements)
        large_json.require_cheap(body, limits.max_text_bytes)
        value = json_text.parse(body)
        json_text.require_unique_members(body, _num_members(value))
        is_batch = isinstance(value, list)
        if is_batch:
            self._require_batch(len(value))
        rows = self._rows(value if is_batch else [value], limits, is_batch=is_batch)
        self._require_input(rows)
        return Inputs(
            self._stacked(rows) if self.takes_batches else self._single(rows[0]), len(value) if is_batch else None
        )

    def to_json(self, outputs: Mapping[str, Tensor], num_rows: int | None, arrays: Arrays) -> bytes:
        """The JSON response to a request of `num_rows` rows; None: it was not a batch.

        Raises:
            InferenceError: the outputs do not fit the model's config.
        """
        rows: Any = [{} for _ in range(1 if num_rows is None else num_rows)]
        for config in self.config.outputs:
            if config.name not in outputs:
                continue
            array = self._fitting(outputs[config.name], config, len(rows))
            for index, row in enumerate(rows):
                row_array = array[index, ...] if self.takes_batches else array
                row[config.name] = json_codec.encode(row_array, config, arrays)
        return orjson.dumps(rows[0] if num_rows is None else rows, option=orjson.OPT_SERIALIZE_NUMPY)

    def _require_batch(self, num_rows: int) -> None:
        max_rows = self.config.max_batch_size
        if not self.takes_batches:
            why = "it is decoupled" if self.config.decoupled else "its max_batch_size is 0"
            detail = f"The body is a list, but this model does not take batches: {why}. Send one object."
        elif not 1 <= num_rows <= max_rows:
            detail = f"The batch has {num_rows} rows; this model takes 1 to {max_rows}."
        else:
            return
        raise invalid_request([FieldProblem("#", "wrong_shape", detail)])

    def _require_input(self, rows: Sequence[Row]) -> None:
        if not any(rows):
            names = ", ".join(f"`{name}`" for name in self._names)
            detail = f"The request has no inputs. All are optional, but Triton needs at least one of {names}."
            raise invalid_request([FieldProblem("#", "missing_field", detail)])

    def _rows(self, values: Sequence[Any], limits: ImageLimits, *, is_batch: bool) -> list[Row]:
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
            raise validation.invalid(details, self._names)
        return rows

    def _row(self, value: Any, location: tuple[int, ...], limits: ImageLimits) -> tuple[Row, list[ErrorDetails]]:
        """The arrays of one object, by input, and the object's problems."""
        if not isinstance(value, dict):
            return {}, [ErrorDetails(type="model_type", loc=location, msg="", input=value)]
        row: dict[str, npt.NDArray[Any]] = {}
        problems: list[ErrorDetails] = []
        for tensor in self.config.inputs:
            if tensor.name in value:
                try:
                    row[tensor.name] = json_codec.decode(value[tensor.name], tensor, limits)
                except InvalidValueError as error:
                    problems += error.details(*location, tensor.name)
            elif not tensor.optional:
                problems.append(ErrorDetails(type="missing", loc=(*location, tensor.name), msg="", input=...))
        unknown = value.keys() - self.config.inputs_by_name.keys()
        problems += [
            ErrorDetails(type="extra_forbidden", loc=(*location, name), msg="", input=...)
            for name in value
            if name in unknown
        ]
        return row, problems

    def _require_few_members(self, value: Any, location: tuple[int, ...]) -> None:
        """Reject very many unknown members at once: an error for each of 100,000 would take seconds."""
        num_known = len(self._names)
        if isinstance(value, dict) and len(value) > num_known + _ENOUGH_PROBLEMS:
            known = ", ".join(f"`{name}`" for name in self._names)
            detail = f"The object has {len(value):,} members; this model has {num_known} inputs: {known}."
            raise invalid_request([FieldProblem(pointer(location), "unknown_field", detail)])

    def _single(self, row: Row) -> dict[str, Tensor]:
        return {each.name: Tensor(each.datatype, row[each.name]) for each in self.config.inputs if each.name in row}

    def _stacked(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """One tensor per input, with the rows as its first dimension."""
        tensors: dict[str, Tensor] = {}
        problems: list[FieldProblem] = []
        for config in self.config.inputs:
            arrays = [row[config.name] for row in rows if config.name in row]
            if not arrays:
                continue
            if len(arrays) != len(rows):
                index = next(index for index, row in enumerate(rows) if config.name not in row)
                detail = f"`{config.name}` must be in every row of the batch or in none; it is missing in row {index}."
                problems.append(FieldProblem(pointer((index,)), "missing_field", detail))
                continue
            index = next((index for index, array in enumerate(arrays) if array.shape != arrays[0].shape), 0)
            if index:
                detail = (
                    f"`{config.name}` has the shape {list(arrays[index].shape)} in row {index}, but "
                    f"{list(arrays[0].shape)} in row 0; all rows of a batch must have the same shape."
                )
                problems.append(FieldProblem(pointer((index, config.name)), "wrong_shape", detail))
                continue
            tensors[config.name] = Tensor(config.datatype, np.stack(arrays))
        if problems:
            raise invalid_request(problems)
        return tensors

    def _fitting(self, tensor: Tensor, config: TensorConfig, num_rows: int) -> npt.NDArray[Any]:
        shape = tensor.array.shape
        if tensor.datatype.kind != config.datatype.kind:
            mismatch = f"is {tensor.datatype.wire}, but its config says {config.datatype.wire}"
        elif self.takes_batches and shape[:1] != (num_rows,):
            mismatch = f"has the shape {list(shape)}, but the batch has {num_rows} rows"
        else:
            return tensor.array
        raise InferenceError(f"The model {self.config.name} failed: its output `{config.name}` {mismatch}.")
