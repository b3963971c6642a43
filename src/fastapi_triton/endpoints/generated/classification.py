# SPDX-License-Identifier: Apache-2.0
"""The query option `classes`: the highest values of an output, with Triton's classification extension.

Triton reads the labels from the output's `label_filename`, which clients cannot read.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastapi_triton.core.errors import InferenceError, InvalidRequestError, invalid_field
from fastapi_triton.core.wrong_values import name_of
from fastapi_triton.triton.datatypes import BY_WIRE, Datatype
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig

OPTION = "classes"
# Triton returns an error for other datatypes, except for BYTES: it exits. It also exits if an output is empty.
_FLOATS = ("FP32", "FP64")

SCHEMA = {
    "type": "object",
    "description": "One of an output's highest values: its index in the flat output, and its label or null.",
    "properties": {
        "score": {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]},
        "index": {"type": "integer", "minimum": 0},
        "label": {"type": ["string", "null"]},
    },
    "required": ["score", "index", "label"],
    "additionalProperties": False,
}


def max_classes(config: ModelConfig) -> Mapping[str, int]:
    """The outputs that the option applies to, each with its number of values: those with labels, or else all."""
    if config.decoupled:
        return {}
    return {tensor.name: math.prod(tensor.dims) for tensor in _candidates(config) if _is_classifiable(tensor)}


def _candidates(config: ModelConfig) -> list[TensorConfig]:
    return [tensor for tensor in config.outputs if tensor.has_labels] or list(config.outputs)


def _is_classifiable(tensor: TensorConfig) -> bool:
    is_number = tensor.datatype.kind == "integer" or tensor.datatype.wire in _FLOATS
    has_fixed_dims = all(dim > 0 for dim in tensor.dims)
    return is_number and has_fixed_dims and not tensor.is_single and not tensor.is_shape_tensor


def requested(config: ModelConfig, num_classes: int) -> Mapping[str, int]:
    """The number of classes of each output to which the option applies.

    Raises:
        InvalidRequestError: it applies to none, or the number is above the number of values.
    """
    sizes = max_classes(config)
    if not sizes:
        raise _unsupported(config)
    if num_classes > max(sizes.values()):
        name = max(sizes, key=lambda each: sizes[each])
        detail = f"`{OPTION}` is {num_classes}; it must be from 1 to {sizes[name]}, the number of values of `{name}`."
        raise invalid_field(OPTION, "out_of_range", detail)
    return {name: min(num_classes, size) for name, size in sizes.items()}


def _unsupported(config: ModelConfig) -> InvalidRequestError:
    if config.decoupled:
        why = f"{config.name} is decoupled, and Triton's generate_stream has no classification"
    else:
        found = ", ".join(f"`{each.name}` is {each.datatype.wire} {list(each.dims)}" for each in _candidates(config))
        why = f"it needs an output of several integers, FP32 or FP64 whose dims the model's config fixes, but {found}"
    return invalid_field(OPTION, "unsupported_parameter", f"Omit `{OPTION}`: {why}.")


def classified(config: ModelConfig, classes: Mapping[str, int]) -> ModelConfig:
    """The config with these outputs as Triton returns their classes: as texts."""
    outputs = (
        replace(tensor, datatype=BY_WIRE["BYTES"], dims=(-1,)) if tensor.name in classes else tensor
        for tensor in config.outputs
    )
    return replace(config, outputs=tuple(outputs))


def decode(texts: npt.NDArray[np.object_], datatype: Datatype) -> list[dict[str, Any]]:
    """The classes in an output of this datatype, in Triton's order: the highest value first.

    Raises:
        InferenceError: a text does not have Triton's form, `score:index` or `score:index:label`.
    """
    try:
        return [_decode(text.decode("utf-8", "replace"), datatype) for text in texts.reshape(-1).tolist()]
    except ValueError:
        raise InferenceError("Triton's classes cannot be read.") from None


def _decode(text: str, datatype: Datatype) -> dict[str, Any]:
    score, index, *label = text.split(":", 2)
    number = int(score) if datatype.kind == "integer" else float(score)
    shown = number if math.isfinite(number) else name_of(number)
    return {"score": shown, "index": int(index), "label": label[0] if label else None}


def parameter(config: ModelConfig) -> dict[str, Any] | None:
    """The option in the OpenAPI document. None: the model does not take it."""
    sizes = max_classes(config)
    if not sizes:
        return None
    names = ", ".join(f"`{name}`" for name in sizes)
    return {
        "name": OPTION,
        "in": "query",
        "description": f"Return this number of the highest values of {names}, each with its index and label.",
        "schema": {"type": "integer", "minimum": 1, "maximum": max(sizes.values())},
    }
