# SPDX-License-Identifier: Apache-2.0
"""A tensor as JSON Schema, and as an example that works."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pybase64

from fastapi_triton.endpoints import binary_arrays, json_codec
from fastapi_triton.endpoints.openapi import REF
from fastapi_triton.triton.model_config import TensorConfig

JSONSchema = dict[str, Any]

# Longer examples make /docs unreadable; a tensor that needs more gets one with the bytes left out.
_MAX_EXAMPLE = 64
# A free dimension of an example.
_FREE = 2
# A white pixel as PNG.
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAGLvRWwAAAABJRU5ErkJggg=="

_BASE64 = {"type": "string", "contentEncoding": "base64"}


def _object(description: str, properties: dict[str, Any], *, required: str) -> JSONSchema:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": [required],
        "additionalProperties": False,
    }


# The objects that stand for arrays of numbers, and for bytes that are no text.
SHARED: dict[str, JSONSchema] = {
    "NpyArray": _object(
        "A `.npy` file in base64: what `numpy.save` writes, with the tensor's own dtype (BF16: float32).",
        {binary_arrays.NPY: _BASE64},
        required=binary_arrays.NPY,
    ),
    "RawArray": _object(
        "An array's bytes in base64, little-endian, row by row; `shape` may be left out where only one is possible.",
        {
            binary_arrays.BASE64: _BASE64,
            binary_arrays.SHAPE: {"type": "array", "items": {"type": "integer", "minimum": 0}},
        },
        required=binary_arrays.BASE64,
    ),
    "Bytes": _object(
        "Bytes that are no UTF-8 text, in base64.", {binary_arrays.BASE64: _BASE64}, required=binary_arrays.BASE64
    ),
}


def schema(tensor: TensorConfig, *, is_output: bool) -> JSONSchema:
    """What a request may hold for the tensor, or an answer does hold."""
    element = _byte_string_schema(tensor) if tensor.datatype.kind == "bytes" else _number_schema(tensor)
    forms: list[JSONSchema] = []
    if tensor.is_single or (tensor.is_scalar and not is_output):
        forms.append(element)
    if not (tensor.is_single and is_output):
        forms.append(_nested(element, tensor.dims))
        if tensor.datatype.kind != "bytes":
            forms += [_shared("NpyArray"), _shared("RawArray")]
    told = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return {**told, "description": describe(tensor)}


def object_schema(title: str, tensors: Sequence[TensorConfig], *, is_output: bool) -> JSONSchema:
    """An object with a member per tensor. A model may leave out an output that its config promises."""
    return {
        "type": "object",
        "title": title,
        "properties": {tensor.name: schema(tensor, is_output=is_output) for tensor in tensors},
        "required": [tensor.name for tensor in tensors if not tensor.optional and not is_output],
        "additionalProperties": False,
    }


def _shared(name: str) -> JSONSchema:
    return {"$ref": REF.format(model=name)}


def describe(tensor: TensorConfig) -> str:
    """Datatype and dims, for a person."""
    shape = "" if tensor.is_single else f" {list(tensor.dims)}"
    content = "" if tensor.content is None else f", {tensor.content}"
    return f"{tensor.datatype.wire}{shape}{content}"


def example(tensor: TensorConfig) -> Any:
    """A value that the tensor takes."""
    element = _element_example(tensor)
    if tensor.is_scalar and (tensor.is_single or tensor.datatype.kind == "bytes"):
        return element
    shape = [_FREE if dim == -1 else dim for dim in tensor.dims]
    if math.prod(shape) <= _MAX_EXAMPLE:
        return np.full(shape, element, dtype=np.object_).tolist()
    if tensor.datatype.kind == "bytes":
        return f"(nested lists of the shape {shape})"
    return {binary_arrays.BASE64: f"(the {math.prod(shape) * tensor.datatype.numpy.itemsize} bytes)", "shape": shape}


def _element_example(tensor: TensorConfig) -> Any:
    if tensor.datatype.kind != "bytes":
        return {"bool": True, "integer": 1, "float": 0.5}[tensor.datatype.kind]
    if tensor.content in (None, "text"):
        return "text"
    return pybase64.b64encode(b"bytes").decode() if tensor.content == "binary" else _PIXEL


def _number_schema(tensor: TensorConfig) -> JSONSchema:
    datatype = tensor.datatype
    if datatype.kind == "bool":
        return {"type": "boolean"}
    if datatype.kind == "integer":
        low, high = datatype.integer_range
        return {"type": "integer", "minimum": low, "maximum": high}
    number = {"type": "number", "minimum": -datatype.float_max, "maximum": datatype.float_max}
    return {"anyOf": [number, {"enum": list(json_codec.NON_FINITE)}]}


def _byte_string_schema(tensor: TensorConfig) -> JSONSchema:
    if tensor.content is None:
        return {"anyOf": [{"type": "string"}, _shared("Bytes")]}
    if tensor.content == "text":
        return {"type": "string"}
    media_type = "application/octet-stream" if tensor.content == "binary" else "image/*"
    return {"type": "string", "contentEncoding": "base64", "contentMediaType": media_type}


def _nested(element: JSONSchema, dims: tuple[int, ...]) -> JSONSchema:
    for dim in reversed(dims):
        size = {} if dim == -1 else {"minItems": dim, "maxItems": dim}
        element = {"type": "array", "items": element, **size}
    return element
