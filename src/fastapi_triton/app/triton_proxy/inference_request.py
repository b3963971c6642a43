# SPDX-License-Identifier: Apache-2.0
"""Checks the JSON of an `/infer` request: a wrong shape or size kills the process of Triton 2.51."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from fastapi_triton.app.triton_proxy.json_outline import CUT
from fastapi_triton.core.errors import NotAllowedError, UnreadableRequestError, shown
from fastapi_triton.core.wrong_values import described
from fastapi_triton.triton.datatypes import BY_WIRE, Datatype
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig, fits

CODE = "invalid_inference_request"
# The limit of numpy, and so of every Python model.
_MAX_RANK = 32
_MAX_INTEGER = 2**63 - 1
# Triton's ids of sequences, priorities and timeouts have 64 bits without a sign.
_MAX_UNSIGNED = 2**64 - 1
# Triton keeps the number of classes in 32 bits.
_MAX_CLASSES = 2**31 - 1
# The limit for the product of the other dimensions of an empty tensor.
_MAX_ELEMENTS = 2**31 - 1
_LENGTH_PREFIX_BYTES = 4
_SHARED_MEMORY = frozenset(("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"))
_NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({})
# Members of a request's `parameters` that Triton reads itself.
_BOOLEANS = ("sequence_start", "sequence_end", "binary_data_output")
_UNSIGNED = ("priority", "timeout")


def invalid(reason: str) -> UnreadableRequestError:
    return UnreadableRequestError(reason, code=CODE)


class RequestedInput(NamedTuple):
    """One input of a request."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


@dataclass(slots=True)
class InferenceRequest:
    """The tensors of a request. `classified` are the outputs that the client requests with `classification`."""

    inputs: tuple[RequestedInput, ...]
    classified: tuple[str, ...]
    # The config that the request was last found to fit: clients often repeat a request.
    _fitted: ModelConfig | None = field(default=None, repr=False, compare=False)

    @property
    def names_tensors(self) -> bool:
        """Whether there is anything to compare with the model's config."""
        return bool(self.inputs or self.classified)

    def require_fit(self, config: ModelConfig | None) -> None:
        """Compare the request with the model's config. Triton itself checks names that the config does not have.

        Raises:
            UnreadableRequestError: the model does not accept a datatype, shape or batch size; or the config does not
                show that `classification` is safe.
        """
        if config is None:
            if self.classified:
                raise invalid(
                    "`classification` needs a model config that the frontend can read. Request the output without "
                    "`classification`."
                )
            return
        if config is self._fitted:
            return
        for each in self.inputs:
            declared = config.input(each.name)
            if declared is not None:
                _require_declared(each, declared, config)
        for name in self.classified:
            _require_classes(name, config)
        self._fitted = config


def read(body: Any, *, num_json_bytes: int, num_binary_bytes: int, is_shared_memory_allowed: bool) -> InferenceRequest:
    """Check the parsed JSON of a request, and compare it with the number of bytes that the client sent.

    Raises:
        UnreadableRequestError: a member has the wrong type, or shapes, sizes and bytes disagree.
        NotAllowedError: the request uses shared memory, which is not allowed.
    """
    request = _object(body, "The body")
    if not isinstance(request.get("id", ""), str):
        raise invalid(f"`id` is {_found(request['id'])}; it must be a string.")
    _check_parameters(_parameters(request, "request"))
    inputs: list[RequestedInput] = []
    num_declared_bytes = num_json_elements = 0
    names: set[str] = set()
    for each in _objects(request, "inputs", is_required=True):
        name = _name(each, "inputs", names)
        one = RequestedInput(name, _datatype(each, name), _shape(each, name))
        num_declared_bytes += _check_size(each, one, is_shared_memory_allowed)
        if "data" in each:
            num_json_elements += math.prod(one.shape)
        if num_json_elements > num_json_bytes:  # Triton allocates memory for the elements before it reads the data
            raise invalid(
                f"Input `{shown(name)}`: with the shape {_shown_shape(one.shape)} the inputs have "
                f"{num_json_elements:,} elements in JSON, more than the body has bytes."
            )
        inputs.append(one)
    if num_declared_bytes != num_binary_bytes:
        raise invalid(
            f"The `binary_data_size` of all inputs is {num_declared_bytes:,} bytes together, but {num_binary_bytes:,} "
            "bytes follow the JSON, whose length is in `Inference-Header-Content-Length`."
        )
    return InferenceRequest(tuple(inputs), tuple(_classified(request, is_shared_memory_allowed)))


def _found(value: Any) -> str:
    """A wrong value as an error shows it."""
    return "a long string" if isinstance(value, str) and CUT in value else described(value)


def _is_or_missing(value: Any) -> str:
    """The part of a sentence between the name of a member and what it must be."""
    return "is required, but missing; it" if value is None else f"is {_found(value)}; it"


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{name} is {_found(value)}; it must be a JSON object.")
    return value


def _objects(request: Mapping[str, Any], member: str, *, is_required: bool = False) -> Sequence[Any]:
    objects = request.get(member)
    if objects is None and not is_required:
        return ()
    if not isinstance(objects, list):
        raise invalid(f"`{member}` {_is_or_missing(objects)} must be a list of objects.")
    return objects


def _name(each: Any, member: str, names: set[str]) -> str:
    if not isinstance(each, dict):
        raise invalid(f"One of `{member}` is {_found(each)}; it must be a JSON object.")
    name = each.get("name")
    if not isinstance(name, str) or not name or CUT in name:
        raise invalid(f"The `name` of one of `{member}` {_is_or_missing(name)} must be a string without NUL.")
    if name in names:
        raise invalid(f"`{member}` has `{shown(name)}` twice.")
    names.add(name)
    return name


def _parameters(each: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    parameters = each.get("parameters")
    if parameters is None:
        return _NO_PARAMETERS
    if not isinstance(parameters, dict):
        raise invalid(f"`{shown(name)}`: `parameters` is {_found(parameters)}; it must be a JSON object.")
    return parameters


def _check_parameters(parameters: Mapping[str, Any]) -> None:
    for name, value in parameters.items():
        if name in _BOOLEANS:
            is_valid, expected = isinstance(value, bool), "true or false"
        elif name in _UNSIGNED:
            is_valid, expected = _is_unsigned(value, _MAX_UNSIGNED), "a whole number of at most 64 bits, not negative"
        elif name == "sequence_id":
            is_valid = isinstance(value, str) or _is_unsigned(value, _MAX_UNSIGNED)
            expected = "a string, or a whole number of at most 64 bits, not negative"
        else:
            is_valid, expected = isinstance(value, bool | int | float | str), "a boolean, a number or a string"
        if not is_valid:
            raise invalid(f"The parameter `{shown(name)}` is {_found(value)}; it must be {expected}.")


def _is_unsigned(value: Any, maximum: int = _MAX_INTEGER) -> bool:
    return type(value) is int and 0 <= value <= maximum


def _datatype(each: Mapping[str, Any], name: str) -> Datatype:
    wire_name = each.get("datatype")
    datatype = BY_WIRE.get(wire_name) if isinstance(wire_name, str) else None
    if datatype is None:
        raise invalid(
            f"Input `{shown(name)}`: `datatype` is {_found(wire_name)}; it must be one of {', '.join(BY_WIRE)}."
        )
    return datatype


def _shape(each: Mapping[str, Any], name: str) -> tuple[int, ...]:
    shape = each.get("shape")
    if isinstance(shape, list) and len(shape) <= _MAX_RANK:
        for size in shape:
            if type(size) is not int or not 0 <= size <= _MAX_INTEGER:
                break
        else:
            return tuple(shape)
    raise invalid(
        f"Input `{shown(name)}`: `shape` is {shown(shape)}; it must be a list of at most {_MAX_RANK} whole numbers, "
        "none of them negative."
    )


def _check_size(each: Mapping[str, Any], one: RequestedInput, is_shared_memory_allowed: bool) -> int:
    """Compare the shape with the data. Returns how many bytes of the data follow the JSON."""
    parameters = _parameters(each, one.name)
    is_shared = _is_shared(parameters, one.name, is_allowed=is_shared_memory_allowed)
    if ("data" in each) + ("binary_data_size" in parameters) + is_shared != 1:
        raise invalid(
            f"Input `{shown(one.name)}` must have exactly one of `data`, `parameters.binary_data_size` and "
            "`parameters.shared_memory_region`."
        )
    num_elements = math.prod(one.shape)
    if not num_elements and math.prod(filter(None, one.shape)) > _MAX_ELEMENTS:
        raise invalid(f"Input `{shown(one.name)}`: the shape {_shown_shape(one.shape)} is too large.")
    if is_shared:
        _require_bytes(one, num_elements, parameters["shared_memory_byte_size"])
        return 0
    if "data" in each:
        if not isinstance(each["data"], list):
            raise invalid(f"Input `{shown(one.name)}`: `data` is {_found(each['data'])}; it must be a list.")
        return 0
    size = parameters["binary_data_size"]
    if not _is_unsigned(size):
        raise invalid(f"Input `{shown(one.name)}`: `binary_data_size` is {_found(size)}; it must be a number of bytes.")
    _require_bytes(one, num_elements, size)
    return int(size)


def _require_bytes(one: RequestedInput, num_elements: int, size: int) -> None:
    if one.datatype.kind == "bytes":
        if _LENGTH_PREFIX_BYTES * num_elements <= size and (num_elements or not size):
            return
    elif num_elements * one.datatype.numpy.itemsize == size:
        return
    raise invalid(
        f"Input `{shown(one.name)}`: {size:,} bytes of data do not fit {one.datatype.wire} of shape "
        f"{_shown_shape(one.shape)}."
    )


def _is_shared(parameters: Mapping[str, Any], name: str, *, is_allowed: bool) -> bool:
    """Whether a tensor is in shared memory. Raises an error if its parameters for that are malformed."""
    if _SHARED_MEMORY.isdisjoint(parameters):
        return False
    if not is_allowed:
        raise NotAllowedError(
            f"`{shown(name)}` is in shared memory, which this frontend does not allow. Send the data in the request, "
            "or start the frontend with --v2-admin (FASTAPI_TRITON_V2_ADMIN=true).",
            code="v2_administration_closed",
        )
    region, size = parameters.get("shared_memory_region"), parameters.get("shared_memory_byte_size")
    offset = parameters.get("shared_memory_offset", 0)
    if not isinstance(region, str) or not region or CUT in region:
        raise invalid(f"`{shown(name)}`: `shared_memory_region` {_is_or_missing(region)} must be the name of a region.")
    if not _is_unsigned(size) or not _is_unsigned(offset) or size + offset > _MAX_INTEGER:
        raise invalid(
            f"`{shown(name)}`: `shared_memory_byte_size` is {_found(size)}, `shared_memory_offset` {_found(offset)}; "
            "both must be numbers of bytes."
        )
    return True


def _classified(request: Mapping[str, Any], is_shared_memory_allowed: bool) -> list[str]:
    """The outputs that the client requests with `classification`."""
    names: set[str] = set()
    classified: list[str] = []
    for each in _objects(request, "outputs"):
        name = _name(each, "outputs", names)
        parameters = _parameters(each, name)
        _is_shared(parameters, name, is_allowed=is_shared_memory_allowed)
        if not isinstance(parameters.get("binary_data", False), bool):
            raise invalid(
                f"Output `{shown(name)}`: `binary_data` is {_found(parameters['binary_data'])}; "
                "it must be true or false."
            )
        count = parameters.get("classification", 0)
        if not _is_unsigned(count) or count > _MAX_CLASSES:
            raise invalid(
                f"Output `{shown(name)}`: `classification` is {_found(count)}; it must be a number of classes."
            )
        if count:
            classified.append(name)
    return classified


def _require_declared(one: RequestedInput, declared: TensorConfig, config: ModelConfig) -> None:
    if one.datatype is not declared.datatype:
        raise invalid(
            f"Input `{one.name}` is {one.datatype.wire}, but the model {config.name} expects {declared.datatype.wire}."
        )
    expected = (-1, *declared.dims) if config.is_batched else declared.dims
    if one.shape != expected and not fits(one.shape, expected):
        raise invalid(
            f"Input `{one.name}`: unexpected shape for the model {config.name}. "
            f"Expected {_shown_shape(expected)}, got {_shown_shape(one.shape)}."
        )
    if config.is_batched and one.shape[0] > config.max_batch_size:
        raise invalid(
            f"Input `{one.name}`: the batch size is {one.shape[0]}; for the model {config.name} it must be <= "
            f"{config.max_batch_size}."
        )


def _require_classes(name: str, config: ModelConfig) -> None:
    output = config.output(name)
    if output is None:
        raise invalid(f"The model {config.name} has no output `{shown(name)}`.")
    is_number = output.datatype.kind == "integer" or output.datatype.wire in ("FP32", "FP64")
    if not is_number or not all(size > 0 for size in output.dims):
        raise invalid(
            f"Output `{name}` is {output.datatype.wire} {_shown_shape(output.dims)}; `classification` needs numbers, "
            "and dimensions that the model's config fixes. Request the output without `classification`."
        )


def _shown_shape(shape: tuple[int, ...]) -> str:
    return shown("[" + ",".join(map(str, shape)) + "]")
