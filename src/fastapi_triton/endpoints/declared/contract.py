# SPDX-License-Identifier: Apache-2.0
"""Compares a declared endpoint with the model's config, and describes every mismatch."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel, Json
from pydantic.fields import FieldInfo

from fastapi_triton.core import paths
from fastapi_triton.core.suggestions import nearest
from fastapi_triton.endpoints import annotations
from fastapi_triton.endpoints.annotations import Value
from fastapi_triton.endpoints.fields import tensor_names
from fastapi_triton.triton import generate_codec
from fastapi_triton.triton.client import Unstreamable
from fastapi_triton.triton.datatypes import Kind
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig

# The Python types that a field may have for each kind of datatype.
_PYTHON_TYPES: dict[Kind, tuple[type, ...]] = {
    "bool": (bool,),
    "integer": (int,),
    "float": (float, int),
    "bytes": (str, bytes),
}

# Type checkers see this class as an annotation.
_JSON: Any = Json
# The output of a stream model with the kind of each response.
EVENT_OUTPUT = "event"


def mismatches(
    request: type[BaseModel],
    response: type[BaseModel],
    config: ModelConfig,
    stream_config: ModelConfig | None = None,
    unstreamable: Callable[[ModelConfig], Unstreamable] = generate_codec.unstreamable,
) -> list[str]:
    """Compare a declaration with the model's config and its stream model's. An empty list means that it fits.

    A request field that only the stream model takes is allowed. `unstreamable` is `TritonClient.unstreamable`.
    """
    problems = [*_repeated(request), *_repeated(response)]
    if config.decoupled:
        problems.append(decoupled(config))
    problems += _sequences(config, *([stream_config] if stream_config is not None else []))
    problems += _field_mismatches(request, response, config, also_known=stream_config.inputs if stream_config else ())
    if stream_config is not None:
        problems += _stream_mismatches(stream_config)
        problems += _unstreamable(request, stream_config, unstreamable(stream_config))
        problems += _field_mismatches(request, response, stream_config)
    return list(dict.fromkeys(problems))


def _sequences(*configs: ModelConfig) -> list[str]:
    return [
        f"the model {config.name} keeps state between requests, which need a sequence id; use its generated endpoint, "
        f"{paths.MODELS}/{config.name}/infer"
        for config in configs
        if config.sequences is not None
    ]


def decoupled(config: ModelConfig) -> str:
    """The problem of a decoupled model that is declared as `model`."""
    return f"the model {config.name} is decoupled, so it cannot return a single response"


def _repeated(declared_model: type[BaseModel]) -> list[str]:
    counts = Counter(tensor_names(declared_model).values())
    return [
        f"{declared_model.__name__} has {count} fields for the tensor `{tensor}`"
        for tensor, count in counts.items()
        if count > 1
    ]


def _stream_mismatches(config: ModelConfig) -> list[str]:
    """Why a model cannot be a stream model, apart from the declared fields."""
    problems = []
    if not config.decoupled:
        problems.append(f"the model {config.name} is not decoupled, so it cannot be the stream model")
    if config.is_batched:
        problems.append(f"the stream model {config.name} must have max_batch_size 0")
    event = config.output(EVENT_OUTPUT)
    if event is None or event.datatype.kind != "bytes":
        problems.append(f"the stream model {config.name} must have an output `{EVENT_OUTPUT}` of TYPE_STRING")
    return problems


def _unstreamable(request: type[BaseModel], config: ModelConfig, unstreamable: Unstreamable) -> list[str]:
    sent = {*tensor_names(request).values(), *(each.name for each in config.inputs if not each.optional)}
    problems = [f"input `{name}` {reason}" for name, reason in unstreamable.inputs.items() if name in sent]
    problems += [f"output `{name}` {reason}" for name, reason in unstreamable.outputs.items()]
    remedy = f"; {unstreamable.remedy}" if unstreamable.remedy else ""
    return [f"the stream model's {each}{remedy}" for each in problems]


def _field_mismatches(
    request: type[BaseModel], response: type[BaseModel], config: ModelConfig, also_known: Sequence[TensorConfig] = ()
) -> list[str]:
    problems = _unknown(request, (*config.inputs, *also_known), "input", config.name)
    problems += _unknown(response, config.outputs, "output", config.name)
    fields = {tensor: name for name, tensor in tensor_names(request).items()}
    for tensor in config.inputs:
        if tensor.name in fields:
            problems += _input_mismatches(request, fields[tensor.name], tensor)
        elif not tensor.optional:
            problems.append(f"the model's input `{tensor.name}` is required, but {request.__name__} has no such field")
    response_fields = {tensor: name for name, tensor in tensor_names(response).items()}
    for tensor in config.outputs:
        if tensor.name in response_fields:
            problems += _output_mismatches(response, response_fields[tensor.name], tensor)
    return problems


def _unknown(model: type[BaseModel], tensors: Iterable[TensorConfig], side: str, model_name: str) -> list[str]:
    names = [tensor.name for tensor in tensors]
    return [
        f"{_where(model, field, tensor)}: the model {model_name} has no {side} of that name"
        f"{_annotation_hint(field, tensor, names) or nearest(tensor, names)}"
        for field, tensor in tensor_names(model).items()
        if tensor not in names
    ]


def _annotation_hint(field: str, tensor: str, names: Iterable[str]) -> str:
    """The hint for a tensor name that differs only in characters that Python names cannot have."""
    same = next((each for each in names if _plain(each) == _plain(tensor) and not each.isidentifier()), None)
    return f'; for `{same}` write `{field}: Annotated[…, TensorName("{same}")]`' if same else ""


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name).strip("_").lower()


def _where(model: type[BaseModel], field: str, tensor: str) -> str:
    return f"`{model.__name__}.{field}`" + (f" (tensor `{tensor}`)" if field != tensor else "")


def _input_mismatches(request: type[BaseModel], name: str, tensor: TensorConfig) -> list[str]:
    field = request.model_fields[name]
    where = _where(request, name, tensor.name)
    problems = []
    for value in annotations.values(request, name):
        if value.plain is dict and tensor.is_scalar and tensor.datatype.kind == "bytes":
            continue  # sent as JSON text
        problems += _type_mismatch(where, value, _PYTHON_TYPES[tensor.datatype.kind], tensor)
        problems += _depth_mismatch(where, value, tensor, depths=_input_depths(tensor))
        problems += _range_mismatches(where, value, tensor)
    default = field.get_default()
    if not tensor.optional and not field.is_required() and default is None and field.default_factory is None:
        problems.append(
            f"{where} is optional, but the model requires that input: give it a default, or make it required"
        )
    if _is_out_of_range(default, tensor):
        problems.append(f"{where}: its default {default} does not fit {_range(tensor)}")
    return problems


def _output_mismatches(response: type[BaseModel], name: str, tensor: TensorConfig) -> list[str]:
    field = response.model_fields[name]
    where = _where(response, name, tensor.name)
    # pydantic's Json type reads JSON from text, so any declaration fits a BYTES output.
    if _reads_json(field):
        return []
    kind = tensor.datatype.kind
    # A response is validated: 0.5 is not an int.
    fitting = (float,) if kind == "float" else _PYTHON_TYPES[kind]
    problems = []
    for value in annotations.values(response, name):
        if kind != "bytes":
            problems += _type_mismatch(where, value, fitting, tensor)
        if value.plain is not dict:
            problems += _depth_mismatch(where, value, tensor, depths=_output_depths(tensor))
    return problems


def _reads_json(field: FieldInfo) -> bool:
    return any(isinstance(each, _JSON) for each in field.metadata)


def _type_mismatch(where: str, value: Value, fitting: tuple[type, ...], tensor: TensorConfig) -> list[str]:
    if value.plain in fitting:
        return []
    as_what = "an object" if value.plain is dict else value.plain.__name__
    return [f"{where} is declared as {as_what}, but the tensor is {tensor.datatype.config}"]


def _input_depths(tensor: TensorConfig) -> set[int]:
    return {len(tensor.dims)} | ({0} if tensor.is_scalar else set())


def _output_depths(tensor: TensorConfig) -> set[int]:
    """A tensor of one value may be declared as a plain value, or within as many lists as it has dims."""
    return set(range(len(tensor.dims) + 1)) if tensor.is_scalar else {len(tensor.dims)}


def _depth_mismatch(where: str, value: Value, tensor: TensorConfig, *, depths: set[int]) -> list[str]:
    depth = len(value.lengths)
    if depth not in depths:
        if depth == 0:
            return [f"{where} is a single value, but the tensor has dims {list(tensor.dims)}"]
        return [f"{where} is {_lists(depth)}, but the tensor has dims {list(tensor.dims)}: {_lists(len(tensor.dims))}"]
    return [
        f"{where} holds {_count(length)}, but the tensor has dims {list(tensor.dims)}"
        for length, dim in zip(value.lengths, tensor.dims, strict=False)
        if dim >= 0 and not length.low <= dim <= length.high
    ]


def _lists(depth: int) -> str:
    return "a list" + " of lists" * (depth - 1)


def _count(length: annotations.Bounds) -> str:
    if length.low == length.high:
        return f"{length.low:g} items"
    return f"{length.low:g} items or more" if length.low > 0 else f"{length.high:g} items at most"


def _range_mismatches(where: str, value: Value, tensor: TensorConfig) -> Iterator[str]:
    """Reports only ranges and options that the datatype cannot hold at all."""
    if tensor.datatype.kind != "integer" or value.plain is not int:
        return
    low, high = tensor.datatype.integer_range
    if value.bounds.low > high or value.bounds.high < low:
        yield f"{where} accepts no value that fits {_range(tensor)}"
    for option in value.options:
        if _is_out_of_range(option, tensor):
            yield f"{where}: its option {option} does not fit {_range(tensor)}"


def _is_out_of_range(value: object, tensor: TensorConfig) -> bool:
    if tensor.datatype.kind != "integer" or not isinstance(value, int):
        return False
    low, high = tensor.datatype.integer_range
    return not low <= value <= high


def _range(tensor: TensorConfig) -> str:
    low, high = tensor.datatype.integer_range
    return f"{tensor.datatype.config} ({low} to {high})"
