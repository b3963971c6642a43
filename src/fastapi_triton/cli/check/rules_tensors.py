# SPDX-License-Identifier: Apache-2.0
"""Rules for inputs and outputs. Triton checks them after the backend has completed the config."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod

from fastapi_triton.cli.check import named_files
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, NOTE, WARNING, Rules
from fastapi_triton.cli.check.tensor import Tensor, missing_fields

RULES: Rules[ModelFolder] = Rules()
SIDES = ("input", "output")
FREE = -1
_MAX_COUNT = 2**63 - 1
_SIZE = "integer >= 1, or -1 to indicate a variable-size dimension"
_IMAGE_FORMATS = ("FORMAT_NHWC", "FORMAT_NCHW")


@RULES.add("auto-completed", NOTE, advice="Declare them in config.pbtxt, or check with --triton.")
def auto_completed(model: ModelFolder) -> Iterator[str]:
    """The backend adds missing tensors, datatypes and dims, so they cannot be checked offline."""
    if model.has_config_file and model.raw is not None:
        if model.completion.sides:
            yield from (f"the config declares no {side}s" for side in SIDES if not model.settings.get(side))
        if model.completion.tensors:
            for prefix, tensor in tensors(model):
                if (fields := missing_fields(tensor)) and "name" not in fields:
                    yield f"{prefix} does not specify {' and '.join(fields)}"


@RULES.add("no-tensors", WARNING, advice="Declare them in config.pbtxt, or add them in auto_complete_config.")
def no_tensors(model: ModelFolder) -> Iterator[str]:
    """Nothing completes the config, and clients can use only declared tensors."""
    if model.is_python and not model.completion.sides:
        yield from (f"the config declares no {side}s" for side in SIDES if not model.settings.get(side))


@RULES.add("incomplete-tensor", ERROR, advice="Write name, data_type and dims.")
def incomplete_tensor(model: ModelFolder) -> Iterator[str]:
    """Triton rejects tensors without name, datatype or dims, unless the backend completes them."""
    for prefix, tensor in tensors(model):
        fields = missing_fields(tensor)
        if fields and (not model.completion.tensors or "name" in fields):
            yield f"{prefix} must specify '{fields[0]}'"
    settings = model.settings
    if model.backend.name == "pytorch" and not settings.get("output") and not settings.get("runtime"):
        yield "model configuration must contain at least one output, none were specified"


@RULES.add("invalid-dims", ERROR, advice="Use sizes from 1, or -1; for a format, 3 dims without the batch dimension.")
def invalid_dims(model: ModelFolder) -> Iterator[str]:
    """Triton rejects dims of 0 or below -1, and a `format` without 3 dims."""
    for prefix, tensor in tensors(model):
        dims: Sequence[int] = tensor.get("dims", ())
        if wrong := _not_sizes(dims):
            yield f"{prefix} dimension must be {_SIZE}: not {wrong[0]}"
        if tensor.get("format") in _IMAGE_FORMATS and dims and len(dims) != 3:
            yield f"{prefix}: NHWC/NCHW require 3 dims, but it has {len(dims)}"


@RULES.add(
    "invalid-reshape",
    ERROR,
    advice="Keep that number and the free dims. An empty reshape needs dims of 1 and max_batch_size >= 1.",
)
def invalid_reshape(model: ModelFolder) -> Iterator[str]:
    """Triton rejects a reshape that changes the number of values."""
    is_batched = model.max_batch_size != 0 or model.completion.batch_size
    for prefix, tensor in tensors(model):
        dims, reshape = tensor.get("dims", ()), tensor.get("reshape")
        if reshape is None or not dims or _not_sizes(dims):
            continue
        shape = reshape.get("shape", ())
        if wrong := _not_sizes(shape):
            yield f"{prefix} reshape dimensions must be {_SIZE}: not {wrong[0]}"
        elif not shape and not is_batched:
            yield f"{prefix} cannot have empty reshape for non-batching model as scalar tensors are not supported"
        elif reason := _mismatch(dims, shape):
            yield f"{prefix} {reason}: {list(dims)} and {list(shape)}"


@RULES.add("tensorrt-only", ERROR, advice='Remove it, or set `platform: "tensorrt_plan"` for a TensorRT model.')
def tensorrt_only(model: ModelFolder) -> Iterator[str]:
    """Only TensorRT has shape tensors and non-linear formats."""
    for prefix, tensor in tensors(model):
        if tensor.get("is_shape_tensor") and not model.is_tensorrt:
            yield f"shape tensors are only supported for TensorRT platform: {prefix}"
        if tensor.get("is_non_linear_format_io"):
            if not model.is_tensorrt:
                yield f"Non-linear IO format is only supported for the TensorRT platform: {prefix}"
            elif tensor.get("dims") and len(tensor["dims"]) != 3:
                yield f"Non-linear IO format requires 3 dims, but {prefix} has {len(tensor['dims'])}"


@RULES.add("duplicate-input", ERROR, advice="Declare each input once.")
def duplicate_input(model: ModelFolder) -> Iterator[str]:
    """Triton counts the inputs of a request, so no request can be complete."""
    names = Counter(each.get("name") for each in model.inputs)
    num_required = sum(not each.get("optional") for each in model.inputs)
    if num_required > len(names):
        repeated = ", ".join(f"`{name}` {count} times" for name, count in names.items() if count > 1)
        yield f"expected {num_required} inputs but got {len(names)} inputs: the config declares {repeated}"


@RULES.add("duplicate-output", WARNING, advice="Declare each output once.")
def duplicate_output(model: ModelFolder) -> Iterator[str]:
    """Triton uses the first one."""
    for name, count in Counter(each.get("name") for each in model.outputs).items():
        if count > 1:
            yield f"the output `{name}` is declared {count} times"


@RULES.add("no-label-file", ERROR, advice="Put the file beside config.pbtxt, or remove label_filename.")
def no_label_file(model: ModelFolder) -> Iterator[str]:
    """Triton reads labels from a file in the model's folder, and crashes if it is a folder."""
    for prefix, tensor in tensors(model):
        name = str(tensor.get("label_filename", ""))
        if name and not named_files.is_file(named_files.joined(model.path, name)):
            yield f"failed to open text file for read {name}: {prefix}"


@RULES.add("label-file-outside", WARNING, advice="Move it into that folder.")
def label_file_outside(model: ModelFolder) -> Iterator[str]:
    """Newer versions of Triton reject a label file outside of the model's folder."""
    for prefix, tensor in tensors(model):
        name = str(tensor.get("label_filename", ""))
        if name and named_files.is_outside(model.path, name):
            yield f"label file path {name} is outside model directory: {prefix}"


def tensors(model: ModelFolder) -> Iterator[tuple[str, Tensor]]:
    """Each tensor with the beginning of Triton's sentences about it."""
    for side in SIDES:
        for tensor in model.settings.get(side, ()):
            name = tensor.get("name")
            yield f"model {side} '{name}'" if name else f"model {side}", tensor


def _not_sizes(dims: Sequence[int]) -> list[int]:
    """The values that are neither a size nor free."""
    return [dim for dim in dims if dim < 1 and dim != FREE]


def _mismatch(dims: Sequence[int], shape: Sequence[int]) -> str:
    """Why `dims` cannot be reshaped to `shape`; "" if they can. Between free dims, the number of values must stay."""
    before, after = _counts(dims), _counts(shape)
    if max(*before, *after) > _MAX_COUNT:
        return "has too many values for dims and reshape"
    if len(before) != len(after) and min(len(before), len(after)) > 1:
        return "has different number of variable-size dimensions for dims and reshape"
    return "" if before == after else "has different size for dims and reshape"


def _counts(dims: Sequence[int]) -> list[int]:
    """The number of values before, between and after the free dims."""
    free = [-1, *(index for index, dim in enumerate(dims) if dim == FREE), len(dims)]
    return [prod(dims[start + 1 : end]) for start, end in pairwise(free)]
