# SPDX-License-Identifier: Apache-2.0
"""Forms for models that take pictures: `multipart/form-data` → the JSON body of an equal request.

A part has the name of an input. A file is a picture, a `.npy` file or, for BYTES, the bytes; other parts hold JSON, or
the text of a BYTES input. A part may be repeated: once for each row of a batch, or for each picture of an input that
takes several.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from fastapi_triton.core.errors import (
    FieldProblem,
    InvalidRequestError,
    TooLargeError,
    UnreadableRequestError,
    invalid_field,
    pointer,
    shown,
)
from fastapi_triton.endpoints import binary_arrays
from fastapi_triton.endpoints.generated import schemas as tensor_schemas
from fastapi_triton.endpoints.generated import sequences
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.endpoints.request_body import forms, json_text, large_json, validation
from fastapi_triton.endpoints.request_body.forms import Part
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig

_MAX_PARTS = 1000
# A field that is sent once counts for all rows of a batch. Its copies may take this much.
_MAX_COPIED_BYTES = 16 * 1024 * 1024
_NPY_MAGIC = b"\x93NUMPY"
# Of a picture; not a URL.
_FILE_NAME = re.compile(r"(?!.*://).{1,255}\.(?:png|jpe?g|webp|gif|bmp|tiff?|heic|avif)", re.IGNORECASE)
_STARTS_OF_JSON = ("[", "{", '"')
_PICTURES = ("image", "base64_image")
# The contents of BYTES that clients send as files.
_FILES = (*_PICTURES, "binary")


def takes_forms(config: ModelConfig) -> bool:
    """Whether the model takes pictures, so that its endpoint accepts forms."""
    return any(tensor.image is not None or tensor.content in _PICTURES for tensor in config.inputs)


def schema(config: ModelConfig) -> dict[str, Any]:
    """The JSON Schema of a form. /docs shows a file chooser for each picture."""
    form: dict[str, Any] = {
        "type": "object",
        "properties": {tensor.name: _field_schema(tensor) for tensor in config.inputs},
        "required": [tensor.name for tensor in config.inputs if not tensor.optional],
    }
    if config.sequences is not None:
        sequences.add_to_schema(form, config.sequences)
    return form


def _field_schema(tensor: TensorConfig) -> dict[str, Any]:
    described = {"type": "string", "description": tensor_schemas.describe(tensor)}
    if tensor.image is not None or tensor.content in _FILES:
        return {**described, "format": "binary"}
    if tensor.datatype.kind == "bytes" and tensor.is_scalar:
        return described
    return {**described, "contentMediaType": validation.JSON}


def example(values: Mapping[str, Any]) -> dict[str, str]:
    """The JSON values of a request as the fields of a form."""
    return {name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in values.items()}


def as_json(body: bytes, content_type: str, config: ModelConfig, limits: ImageLimits) -> bytes:
    """The JSON body of the same request. It is checked as every JSON body is.

    Raises:
        UnreadableRequestError: the form is incomplete, or a part is not JSON.
        UnsupportedMediaError: its texts have a charset that is not supported.
        InvalidRequestError: parts are repeated where they may not be.
        TooLargeError: the JSON in a part exceeds a limit.
    """
    fields: dict[str, list[bytes]] = {}
    parts = forms.read(body, content_type, max_parts=_max_parts(config))
    del body  # the parts are copies
    while parts:
        part = parts.pop(0)
        tensor = config.input(part.name)
        if tensor is not None:
            value = _value(part, tensor, limits)
        elif config.sequences is not None and part.name in sequences.FIELDS:
            value = sequences.json_of_text(part.name, part.text(), config.sequences)
        else:
            value = b"null"
        fields.setdefault(part.name, []).append(value)
    num_rows = max(map(len, fields.values()), default=1)
    if num_rows > 1 and config.takes_batches:
        return b"[%b]" % b",".join(_rows(fields, num_rows))
    return _object({name: _only(name, values, config) for name, values in fields.items()})


def _max_parts(config: ModelConfig) -> int:
    """One more than the fields, so that the error can name an unknown field, and one for the charset."""
    takes_several = any(tensor.image is not None and tensor.image.leading == -1 for tensor in config.inputs)
    num_rows = _MAX_PARTS if takes_several else config.max_batch_size if config.takes_batches else 1
    num_others = len(sequences.FIELDS) if config.sequences is not None else 0
    return min(_MAX_PARTS, len(config.inputs) * num_rows) + num_others + 2


def _value(part: Part, tensor: TensorConfig, limits: ImageLimits) -> bytes:
    """The JSON of one part."""
    if part.is_file:
        return _value_of_file(part, tensor, limits)
    text = part.text()
    if tensor.datatype.kind == "bytes" and tensor.is_scalar:
        return orjson.dumps(text)
    if tensor.image is not None and not text.lstrip().startswith(_STARTS_OF_JSON):
        if _FILE_NAME.fullmatch(text):
            detail = (
                f"`{part.name}` is the text {shown(text)}. To send that file, add @: curl -F {part.name}=@{shown(text)}"
            )
            raise invalid_field(part.name, "not_an_image", detail)
        return orjson.dumps(text)  # base64 or a data URL
    return _checked_json(part.name, text.encode(), limits)


def _value_of_file(part: Part, tensor: TensorConfig, limits: ImageLimits) -> bytes:
    if tensor.datatype.kind == "bytes":
        if tensor.content == "text":
            return orjson.dumps(part.text())
        text = part.base64()
        return orjson.dumps({binary_arrays.BASE64: text} if tensor.content is None else text)
    if part.data.startswith(_NPY_MAGIC):
        return orjson.dumps({binary_arrays.NPY: part.base64()})
    if tensor.image is not None:
        return orjson.dumps(part.base64())
    try:
        text = part.text()
    except InvalidRequestError:
        reason = (
            f"is a file, but the model takes {tensor_schemas.describe(tensor)} from a `.npy` file or JSON, no picture"
        )
        raise invalid_field(part.name, "wrong_type", f"`{part.name}` {reason}.") from None
    return _checked_json(part.name, text.encode(), limits)


def _checked_json(name: str, text: bytes, limits: ImageLimits) -> bytes:
    """The text, if it is JSON."""
    validation.require_few_elements(text, limits.max_elements)
    large_json.require_cheap(text, limits.max_text_bytes)
    try:
        json_text.parse(text)
    except UnreadableRequestError as error:
        detail = f"`{shown(name)}` is not JSON: {error.detail.removeprefix('The body is not JSON: ')}"
        problem = FieldProblem(pointer((name,)), error.code, detail)
        raise UnreadableRequestError(detail, code=error.code, problems=[problem]) from None
    return text


def _rows(fields: Mapping[str, Sequence[bytes]], num_rows: int) -> list[bytes]:
    for name, values in fields.items():
        if len(values) not in (1, num_rows):
            detail = (
                f"`{shown(name)}` was sent {len(values)} times, but the batch has {num_rows} rows. Send it once for "
                "each row, or once for all rows."
            )
            raise invalid_field(name, "repeated_field", detail)
    copied = {name: values[0] for name, values in fields.items() if len(values) == 1}
    if sum(map(len, copied.values())) * num_rows > _MAX_COPIED_BYTES:
        names = ", ".join(f"`{shown(name)}`" for name in copied)
        detail = f"The values of {names} are too long to be copied to {num_rows} rows. Send each row as a request."
        raise TooLargeError(detail)
    return [
        _object({name: values[index if len(values) > 1 else 0] for name, values in fields.items()})
        for index in range(num_rows)
    ]


def _only(name: str, values: Sequence[bytes], config: ModelConfig) -> bytes:
    """The value of a field in a request of one row."""
    if len(values) == 1:
        return values[0]
    tensor = config.input(name)
    if tensor is None or tensor.image is None or tensor.image.leading is None:
        raise _repeated(name, config)
    return b"[%b]" % b",".join(values)


def _repeated(name: str, config: ModelConfig) -> InvalidRequestError:
    detail = f"`{shown(name)}` was sent more than once. Send it once: {config.name} takes one row in a request."
    return invalid_field(name, "repeated_field", detail)


def _object(members: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(b"%b:%b" % (orjson.dumps(name), value) for name, value in members.items())
