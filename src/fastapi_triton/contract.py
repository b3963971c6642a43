# SPDX-License-Identifier: Apache-2.0
"""Does a declared endpoint fit the model's config? Every mismatch, in words."""

import difflib
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from fastapi_triton.datatypes import Kind
from fastapi_triton.model_config import ModelConfig, TensorConfig

# Which Python types a datatype's values may be declared as.
_PYTHON_TYPES: dict[Kind, tuple[type, ...]] = {
    "bool": (bool,),
    "integer": (int,),
    "float": (float, int),
    "bytes": (str, bytes),
}


def mismatches(request: type[BaseModel], response: type[BaseModel], config: ModelConfig) -> list[str]:
    """Hold a declaration against the config. An empty list means that it fits."""
    problems: list[str] = []
    if config.decoupled:
        problems.append(f"the model {config.name} is decoupled, so it cannot answer a single request")
    problems += _unknown(request, config.inputs, "input", config.name)
    problems += _unknown(response, config.outputs, "output", config.name)
    for tensor in config.inputs:
        field = request.model_fields.get(tensor.name)
        if field is None:
            if not tensor.optional:
                problems.append(
                    f"the model's input `{tensor.name}` is required, but {request.__name__} has no such field"
                )
            continue
        problems += _type_mismatch(request, tensor, field.annotation)
        if not tensor.optional and not field.is_required() and field.get_default() is None:
            problems.append(
                f"`{request.__name__}.{tensor.name}` may be left out, but the model requires that input: "
                "give it a default, or make it required"
            )
    for tensor in config.outputs:
        answer_field = response.model_fields.get(tensor.name)
        # A text may hold JSON, which pydantic's Json type reads; so any declaration fits a BYTES output.
        if answer_field is not None and tensor.datatype.kind != "bytes":
            problems += _type_mismatch(response, tensor, answer_field.annotation)
    return problems


def _unknown(declared: type[BaseModel], tensors: Iterable[TensorConfig], side: str, model_name: str) -> list[str]:
    names = [tensor.name for tensor in tensors]
    return [
        f"`{declared.__name__}.{field}`: the model {model_name} has no {side} of that name{nearest(field, names)}"
        for field in declared.model_fields
        if field not in names
    ]


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; known are {', '.join(f'`{each}`' for each in known)}" if known else ""


def _type_mismatch(declared: type[BaseModel], tensor: TensorConfig, annotation: Any) -> list[str]:
    where = f"`{declared.__name__}.{tensor.name}`"
    kinds = _PYTHON_TYPES[tensor.datatype.kind]
    problems = []
    for python_type, is_list in _value_types(annotation):
        if python_type not in kinds:
            problems.append(
                f"{where} is declared as {python_type.__name__}, but the tensor is {tensor.datatype.config}"
            )
        if not is_list and not tensor.is_scalar:
            problems.append(f"{where} is a single value, but the tensor has dims {list(tensor.dims)}")
    return problems


def _value_types(annotation: Any) -> list[tuple[type, bool]]:
    """The plain types behind an annotation, each with whether it stands in a list; what cannot be told is left out."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Annotated:
        return _value_types(arguments[0])
    if origin in (Union, types.UnionType):
        return [pair for each in arguments if each is not types.NoneType for pair in _value_types(each)]
    if origin is Literal:
        return [(type(value), False) for value in arguments]
    if origin in (list, tuple):
        return [(python_type, True) for each in arguments for python_type, _ in _value_types(each)]
    return [(annotation, False)] if annotation in (bool, int, float, str, bytes) else []
