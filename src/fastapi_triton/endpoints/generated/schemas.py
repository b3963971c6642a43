# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of a tensor, and a valid example."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pybase64

from fastapi_triton.endpoints import binary_arrays, images, json_codec
from fastapi_triton.endpoints.openapi import REF
from fastapi_triton.triton.image_dims import ImageDims
from fastapi_triton.triton.model_config import TensorConfig

JSONSchema = dict[str, Any]

# Longer examples make /docs unreadable. A larger tensor gets an example without its bytes.
_MAX_EXAMPLE = 64
# The size of a variable dimension in an example.
_FREE = 2

_BASE64 = {"type": "string", "contentEncoding": "base64"}


def _object(description: str, properties: dict[str, Any], *, required: str) -> JSONSchema:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": [required],
        "additionalProperties": False,
    }


# The objects that hold arrays of numbers, and bytes that are not text.
SHARED: dict[str, JSONSchema] = {
    "NpyArray": _object(
        "A `.npy` file in base64, as `numpy.save` writes it, with the tensor's own dtype (BF16: float32).",
        {binary_arrays.NPY: _BASE64},
        required=binary_arrays.NPY,
    ),
    "RawArray": _object(
        "An array's bytes in base64, little-endian, row by row. `shape` is optional if only one is possible.",
        {
            binary_arrays.BASE64: _BASE64,
            binary_arrays.SHAPE: {"type": "array", "items": {"type": "integer", "minimum": 0}},
        },
        required=binary_arrays.BASE64,
    ),
    "Bytes": _object(
        "Bytes that are not UTF-8 text, in base64.", {binary_arrays.BASE64: _BASE64}, required=binary_arrays.BASE64
    ),
}


def schema(tensor: TensorConfig, *, is_output: bool) -> JSONSchema:
    """The schema of the tensor's value in a request, or in a response."""
    element = _byte_string_schema(tensor) if tensor.datatype.kind == "bytes" else _number_schema(tensor)
    forms: list[JSONSchema] = []
    if tensor.is_single or (tensor.is_scalar and not is_output):
        forms.append(element)
    if not (tensor.is_single and is_output):
        forms.append(_nested(element, tensor.dims))
        if tensor.datatype.kind != "bytes":
            forms += [_shared("NpyArray"), _shared("RawArray")]
    if tensor.image is not None:
        forms += _pictures(tensor.image)
    value = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return {**value, "description": describe(tensor)}


def object_schema(title: str, tensors: Sequence[TensorConfig], *, is_output: bool) -> JSONSchema:
    """An object with a member per tensor. No output is required: a model may omit outputs of its config."""
    return {
        "type": "object",
        "title": title,
        "properties": {tensor.name: schema(tensor, is_output=is_output) for tensor in tensors},
        "required": [tensor.name for tensor in tensors if not tensor.optional and not is_output],
        "additionalProperties": False,
    }


def _pictures(image: ImageDims) -> list[JSONSchema]:
    """A picture in base64; several if the tensor has a dimension for them."""
    picture = {**_BASE64, "contentMediaType": "image/*"}
    if image.leading is None:
        return [picture]
    return [
        picture,
        {"type": "array", "items": picture, "minItems": 1, **({"maxItems": 1} if image.leading == 1 else {})},
    ]


def _shared(name: str) -> JSONSchema:
    return {"$ref": REF.format(model=name)}


def describe(tensor: TensorConfig) -> str:
    """Datatype and dims, for a person."""
    shape = "" if tensor.is_single else f" {list(tensor.dims)}"
    content = "" if tensor.content is None else f", {tensor.content}"
    if tensor.image is not None:
        content = ", a picture"
        if tensor.image.normalizations:
            content += f" with the normalization {tensor.normalize}"
    return f"{tensor.datatype.wire}{shape}{content}"


def example(tensor: TensorConfig, *, is_output: bool = False) -> Any:
    """A valid value of the tensor."""
    if tensor.image is not None and not is_output:
        return images.SCRIBBLE
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
    return pybase64.b64encode(b"bytes").decode() if tensor.content == "binary" else images.SCRIBBLE


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
