# SPDX-License-Identifier: Apache-2.0
"""Which tensor a field of a pydantic model is, how deep its lists go, and errors told in its caller's words."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fastapi_triton.core.errors import FastAPITritonError, pointer


@dataclass(frozen=True, slots=True)
class TensorName:
    """Names the tensor of a field that cannot bear its name: `x: Annotated[list[float], TensorName("input.1")]`."""

    name: str


@functools.cache
def tensor_names(model: type[BaseModel]) -> Mapping[str, str]:
    """The tensor of every field: the one that is named, else the one of the field's own name."""
    return {name: _named(field) or name for name, field in model.model_fields.items()}


def callers_name(name: str, field: FieldInfo) -> str:
    """What a caller calls a field: its alias, else its name."""
    return field.validation_alias if isinstance(field.validation_alias, str) else name


@functools.cache
def caller_names(model: type[BaseModel]) -> Mapping[str, str]:
    """What a caller calls each tensor: the field's alias, else its name. Only where that is not the tensor's own."""
    told = {}
    for name, field in model.model_fields.items():
        tensor = tensor_names(model)[name]
        callers = callers_name(name, field)
        if tensor != callers:
            told[tensor] = callers
    return told


def tensor_values(body: BaseModel) -> dict[str, Any]:
    """The values of the model's fields, by tensor."""
    values = body.__dict__
    return {tensor: values[name] for name, tensor in tensor_names(type(body)).items()}


@functools.cache
def list_depths(model: type[BaseModel]) -> Mapping[str, int]:
    """How many lists a value of each field stands in: 0 for a plain value, and for what cannot be told."""
    return {name: _list_depth(field.annotation) for name, field in model.model_fields.items()}


def _list_depth(annotation: Any) -> int:
    arguments = get_args(annotation)
    if get_origin(annotation) in (list, tuple):
        return 1 + max((_list_depth(each) for each in arguments if each is not Ellipsis), default=0)
    if get_origin(annotation) is Annotated:
        arguments = arguments[:1]
    return max((_list_depth(each) for each in arguments if isinstance(each, type) or get_origin(each)), default=0)


def put_in_callers_words(error: FastAPITritonError, names: Mapping[str, str] | None) -> None:
    """Have an error that names tensors name the client's fields. None: the client has no field for any tensor."""
    if names is None:
        error.problems = tuple(replace(each, pointer="#") for each in error.problems)
    elif names and error.problems:
        error.detail = _reworded(error.detail, names)
        error.problems = tuple(
            replace(each, pointer=_pointer(each.pointer, names), detail=_reworded(each.detail, names))
            for each in error.problems
        )


def _pointer(problem: str, names: Mapping[str, str]) -> str:
    for tensor, field in names.items():
        start = pointer((tensor,))
        if problem == start or problem.startswith(f"{start}/"):
            return pointer((field,)) + problem.removeprefix(start)
    return problem


def _reworded(detail: str, names: Mapping[str, str]) -> str:
    for tensor, field in names.items():
        detail = detail.replace(f"`{tensor}`", f"`{field}`").replace(f"`{tensor}.", f"`{field}.")
    return detail


def _named(field: FieldInfo) -> str | None:
    """The name in the field's own annotation, or in a part of it (`Annotated[…] | None`)."""
    return next(
        (each.name for each in (*field.metadata, *_markers(field.annotation)) if isinstance(each, TensorName)), None
    )


def _markers(annotation: Any) -> Iterator[TensorName]:
    for each in get_args(annotation):
        if isinstance(each, TensorName):
            yield each
        elif get_origin(each) is not None:
            yield from _markers(each)
