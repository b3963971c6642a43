# SPDX-License-Identifier: Apache-2.0
"""Rows ↔ the tensors of requests to Triton, which have the rows as their first dimension."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastapi_triton.core.errors import (
    FastAPITritonError,
    FieldProblem,
    InferenceError,
    InvalidRequestError,
    invalid_request,
    pointer,
)
from fastapi_triton.endpoints.generated.rows import Row
from fastapi_triton.triton.client import Parameters
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Part:
    """The tensors of one request to Triton, and the rows of the batch that it holds."""

    tensors: dict[str, Tensor]
    rows: Sequence[int] = (0,)


@dataclass(frozen=True, slots=True)
class Inputs:
    """A body as requests to Triton, and the number of rows in its batch. None: it is not a batch.

    Only rows with ragged inputs need several requests. Triton batches them. `parameters` are Triton's.
    """

    parts: Sequence[Part]
    num_rows: int | None
    parameters: Parameters = field(default_factory=dict)

    @property
    def is_batch(self) -> bool:
        return self.num_rows is not None


def require_size(config: ModelConfig, num_rows: int) -> None:
    """Check that a list of this many objects is a batch for the model.

    Raises:
        InvalidRequestError: it is not.
    """
    max_rows = config.max_batch_size
    if not config.takes_batches:
        why = "it is decoupled" if config.decoupled else "its max_batch_size is 0"
        why = "Triton takes one row of a sequence per request" if config.sequences is not None else why
        detail = f"The body is a list, but this model does not take batches: {why}. Send one object."
    elif not 1 <= num_rows <= max_rows:
        detail = f"The batch has {num_rows} rows; this model takes 1 to {max_rows}."
    else:
        return
    raise invalid_request([FieldProblem("#", "wrong_shape", detail)])


def parts(config: ModelConfig, rows: Sequence[Row]) -> list[Part]:
    """The requests for these rows. Rows that differ in the shape of a ragged input are in different requests.

    Raises:
        InvalidRequestError: the rows differ in their inputs, in the shapes of others, or in a shape tensor.
    """
    if len(rows) == 1:
        return [Part(_single(config, rows[0]))]
    problems = [problem for tensor in config.inputs if (problem := _difference(tensor, rows)) is not None]
    if problems:
        raise invalid_request(problems)
    ragged = [tensor.name for tensor in config.inputs if tensor.allow_ragged_batch]
    by_shape: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for index, row in enumerate(rows):
        by_shape.setdefault(tuple(row[name].shape for name in ragged if name in row), []).append(index)
    return [Part(_stacked(config, [rows[index] for index in indices]), indices) for indices in by_shape.values()]


def _single(config: ModelConfig, row: Row) -> dict[str, Tensor]:
    """One tensor per input, which shares the memory of its row."""
    has_rows = config.has_batch_dimension
    return {
        tensor.name: Tensor(
            tensor.datatype,
            row[tensor.name][np.newaxis] if has_rows and not tensor.is_shape_tensor else row[tensor.name],
        )
        for tensor in config.inputs
        if tensor.name in row
    }


def _stacked(config: ModelConfig, rows: Sequence[Row]) -> dict[str, Tensor]:
    """One tensor per input, with the rows as its first dimension."""
    return {
        tensor.name: Tensor(
            tensor.datatype,
            rows[0][tensor.name] if tensor.is_shape_tensor else np.stack([row[tensor.name] for row in rows]),
        )
        for tensor in config.inputs
        if tensor.name in rows[0]
    }


def _difference(tensor: TensorConfig, rows: Sequence[Row]) -> FieldProblem | None:
    """The problem if rows differ in this input where a batch must not."""
    name = tensor.name
    arrays = [row[name] for row in rows if name in row]
    if not arrays:
        return None
    if len(arrays) != len(rows):
        index = next(index for index, row in enumerate(rows) if name not in row)
        detail = f"`{name}` must be in every row of the batch or in none; it is missing in row {index}."
        return FieldProblem(pointer((index,)), "missing_field", detail)
    first = arrays[0]
    if tensor.is_shape_tensor:
        index = next((index for index, array in enumerate(arrays) if not np.array_equal(array, first)), 0)
        detail = (
            f"`{name}` is a shape tensor, which a batch has only once. Its value in row {index} is not that of row 0. "
            "Send rows with another value as a request of their own."
        )
        return FieldProblem(pointer((index, name)), "invalid_value", detail) if index else None
    index = next((index for index, array in enumerate(arrays) if array.shape != first.shape), 0)
    if not index or tensor.allow_ragged_batch:
        return None
    detail = (
        f"`{name}` has the shape {list(arrays[index].shape)} in row {index}, but {list(first.shape)} in row 0; all "
        "rows of a batch must have the same shape."
    )
    return FieldProblem(pointer((index, name)), "wrong_shape", detail)


def name_rows(error: FastAPITritonError, rows: Sequence[int]) -> None:
    """Name the rows whose request failed with this error."""
    names = f"Row {rows[0]}" if len(rows) == 1 else f"Rows {', '.join(map(str, rows))}"
    if isinstance(error, InvalidRequestError):
        found = error.problems or [FieldProblem("#", error.code, error.detail)]
        row = pointer((rows[0],))
        error.problems = tuple(FieldProblem(row + each.pointer[1:], each.code, each.detail) for each in found)
    error.detail = f"{names} of the batch failed, so the batch has no response. {error.detail}"


def output_rows(config: ModelConfig, outputs: Mapping[str, Tensor], num_rows: int) -> Sequence[Row]:
    """The output arrays of each row, by output, without the batch dimension.

    Raises:
        InferenceError: the outputs do not fit the model's config.
    """
    rows: list[dict[str, npt.NDArray[Any]]] = [{} for _ in range(num_rows)]
    for tensor in config.outputs:
        if tensor.name not in outputs:
            continue
        has_rows = config.has_batch_dimension and not tensor.is_shape_tensor
        array = _fitting(config, outputs[tensor.name], tensor, num_rows if has_rows else None)
        for index, row in enumerate(rows):
            row[tensor.name] = array[index, ...] if has_rows else array
    return rows


def _fitting(config: ModelConfig, output: Tensor, tensor: TensorConfig, num_rows: int | None) -> npt.NDArray[Any]:
    shape = output.array.shape
    if output.datatype.kind != tensor.datatype.kind:
        mismatch = f"is {output.datatype.wire}, but its config says {tensor.datatype.wire}"
    elif num_rows is not None and shape[:1] != (num_rows,):
        mismatch = f"has the shape {list(shape)}, but the batch has {num_rows} rows"
    else:
        return output.array
    raise InferenceError(f"The model {config.name} failed: its output `{tensor.name}` {mismatch}.")
