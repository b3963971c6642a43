# SPDX-License-Identifier: Apache-2.0
"""The tensor of a pydantic field; renames tensors to the client's fields in errors."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from fastapi_triton.core.errors import FastAPITritonError, pointer


@dataclass(frozen=True, slots=True)
class TensorName:
    """Names a tensor whose name is not a Python identifier: `x: Annotated[list[float], TensorName("input.1")]`."""

    name: str


@functools.cache
def tensor_names(model: type[BaseModel]) -> Mapping[str, str]:
    """The tensor of every field: its `TensorName`, or else the field's own name."""
    return {name: _named(field) or name for name, field in model.model_fields.items()}


def client_name(name: str, field: FieldInfo) -> str:
    """The name that clients use for a field: its alias, or else its name."""
    return field.validation_alias if isinstance(field.validation_alias, str) else name


def sent_names(name: str, field: FieldInfo) -> list[str]:
    """All names by which a client may send a field."""
    alias = field.validation_alias
    return [str(each) for each in alias.choices] if isinstance(alias, AliasChoices) else [str(alias or name)]


@functools.cache
def client_names(model: type[BaseModel]) -> Mapping[str, str]:
    """The names that clients use for tensors, where they differ from the tensors' own."""
    names = {}
    for name, field in model.model_fields.items():
        tensor = tensor_names(model)[name]
        sent = client_name(name, field)
        if tensor != sent:
            names[tensor] = sent
    return names


def tensor_values(body: BaseModel) -> dict[str, Any]:
    """The values of the model's fields, by tensor."""
    values = body.__dict__
    return {tensor: values[name] for name, tensor in tensor_names(type(body)).items()}


def rename_tensors(error: FastAPITritonError, names: Mapping[str, str] | None) -> None:
    """Rename tensors to request fields in an error. None: the client has no field for any tensor."""
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
