# SPDX-License-Identifier: Apache-2.0
"""Rows ↔ the tensors of one request to Triton, which have the rows as their first dimension."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastapi_triton.core.errors import FieldProblem, InferenceError, invalid_request, pointer
from fastapi_triton.endpoints.generated.obstacles import takes_batches
from fastapi_triton.endpoints.generated.rows import Row
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Inputs:
    """A request's tensors, and the number of rows in its batch. None: it is not a batch."""

    tensors: dict[str, Tensor]
    num_rows: int | None


def require_size(config: ModelConfig, num_rows: int) -> None:
    """Check that a list of this many objects is a batch for the model.

    Raises:
        InvalidRequestError: it is not.
    """
    max_rows = config.max_batch_size
    if not takes_batches(config):
        why = "it is decoupled" if config.decoupled else "its max_batch_size is 0"
        detail = f"The body is a list, but this model does not take batches: {why}. Send one object."
    elif not 1 <= num_rows <= max_rows:
        detail = f"The batch has {num_rows} rows; this model takes 1 to {max_rows}."
    else:
        return
    raise invalid_request([FieldProblem("#", "wrong_shape", detail)])


def single(config: ModelConfig, row: Row) -> dict[str, Tensor]:
    """The tensors of one row, for a model without batches."""
    return {each.name: Tensor(each.datatype, row[each.name]) for each in config.inputs if each.name in row}


def stacked(config: ModelConfig, rows: Sequence[Row]) -> dict[str, Tensor]:
    """One tensor per input, with the rows as its first dimension.

    Raises:
        InvalidRequestError: the rows differ in their inputs or shapes.
    """
    tensors: dict[str, Tensor] = {}
    problems: list[FieldProblem] = []
    for tensor in config.inputs:
        arrays = [row[tensor.name] for row in rows if tensor.name in row]
        if not arrays:
            continue
        if len(arrays) != len(rows):
            index = next(index for index, row in enumerate(rows) if tensor.name not in row)
            detail = f"`{tensor.name}` must be in every row of the batch or in none; it is missing in row {index}."
            problems.append(FieldProblem(pointer((index,)), "missing_field", detail))
            continue
        index = next((index for index, array in enumerate(arrays) if array.shape != arrays[0].shape), 0)
        if index:
            detail = (
                f"`{tensor.name}` has the shape {list(arrays[index].shape)} in row {index}, but "
                f"{list(arrays[0].shape)} in row 0; all rows of a batch must have the same shape."
            )
            problems.append(FieldProblem(pointer((index, tensor.name)), "wrong_shape", detail))
            continue
        tensors[tensor.name] = Tensor(tensor.datatype, np.stack(arrays))
    if problems:
        raise invalid_request(problems)
    return tensors


def output_rows(config: ModelConfig, outputs: Mapping[str, Tensor], num_rows: int) -> list[dict[str, npt.NDArray[Any]]]:
    """The output arrays of each row, by output, without the batch dimension.

    Raises:
        InferenceError: the outputs do not fit the model's config.
    """
    rows: list[dict[str, npt.NDArray[Any]]] = [{} for _ in range(num_rows)]
    for tensor in config.outputs:
        if tensor.name not in outputs:
            continue
        array = _fitting(config, outputs[tensor.name], tensor, num_rows)
        for index, row in enumerate(rows):
            row[tensor.name] = array[index, ...] if takes_batches(config) else array
    return rows


def _fitting(config: ModelConfig, output: Tensor, tensor: TensorConfig, num_rows: int) -> npt.NDArray[Any]:
    shape = output.array.shape
    if output.datatype.kind != tensor.datatype.kind:
        mismatch = f"is {output.datatype.wire}, but its config says {tensor.datatype.wire}"
    elif takes_batches(config) and shape[:1] != (num_rows,):
        mismatch = f"has the shape {list(shape)}, but the batch has {num_rows} rows"
    else:
        return output.array
    raise InferenceError(f"The model {config.name} failed: its output `{tensor.name}` {mismatch}.")
