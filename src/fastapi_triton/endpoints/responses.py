# SPDX-License-Identifier: Apache-2.0
"""A model's outputs → the endpoint's response model → JSON, or the picture itself."""

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from fastapi_triton.core import wrong_values
from fastapi_triton.core.errors import InferenceError, NotAcceptableError
from fastapi_triton.endpoints import content_negotiation, images
from fastapi_triton.endpoints.annotations import list_depths
from fastapi_triton.endpoints.fields import tensor_names

logger = logging.getLogger(__name__)

# Clients and proxies accept 8 KB of headers in all, some only 4. A response with more is lost.
MAX_HEADER_CHARACTERS = 3000
_NULL = b"null"


def read(response: type[BaseModel], values: Mapping[str, Any], *, model: str) -> BaseModel:
    """The values, by tensor, as the response model.

    Raises:
        InferenceError: the values do not fit the model.
    """
    try:
        return response.model_validate(_fields(response, values), by_alias=False, by_name=True)
    except ValidationError as error:
        # Without the values, which may be the client's texts, or a picture.
        problems = {".".join(map(str, each["loc"])): each for each in error.errors(include_input=False)}
        reasons = "; ".join(f"{name}: {each['msg']}" for name, each in problems.items())
        logger.error("model %s: its outputs do not fit %s: %s", model, response.__name__, reasons)
        detail = (
            f"The outputs of the model {model} do not fit the endpoint's response; the server's log has the reasons."
        )
        if not_text := [f"`{name}`" for name, each in problems.items() if each["type"] == "string_unicode"]:
            detail = f"The model {model} returned bytes that are not UTF-8 text, in {', '.join(not_text)}."
        raise InferenceError(detail) from None


def _fields(response: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    depths = list_depths(response)
    return {
        name: _in_lists(values[tensor], depths[name])
        for name, tensor in tensor_names(response).items()
        if tensor in values
    }


def _in_lists(value: Any, depth: int) -> Any:
    """The value in as many lists as are declared: a tensor of one value comes as a plain value."""
    if isinstance(value, list):
        return value
    for _ in range(depth):
        value = [value]
    return value


def to_json(response: BaseModel) -> bytes:
    """The response as JSON: the body that a client gets, or the data of the last event.

    NaN and Infinity, which JSON lacks, are the texts "NaN", "Infinity" and "-Infinity".

    Raises:
        InferenceError: a field of type bytes is not UTF-8 text.
    """
    try:
        plain_values = response.model_dump(mode="json", exclude_none=True, by_alias=True)
        body = orjson.dumps(plain_values)
        if _is_without_null(plain_values):  # to search a picture's text would take longer than the rest
            return body
    except (orjson.JSONEncodeError, UnicodeDecodeError):  # handled below
        body = _NULL
    if _NULL not in body:  # pydantic and orjson write NaN as null
        return body
    return encode(plain(response, by_alias=True))


def _is_without_null(value: Any) -> bool:
    """Whether it certainly has neither None nor NaN: a quick check that may return False for other values."""
    if isinstance(value, dict):
        return all(map(_is_without_null, value.values()))
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def plain(response: BaseModel, *, by_alias: bool = False) -> dict[str, Any]:
    """The response's fields as JSON values. Raises what `to_json` raises."""
    try:
        values = response.model_dump(mode="json", exclude_none=True, by_alias=by_alias)
    except UnicodeDecodeError:
        names = ", ".join(f"`{name}`" for name, value in response if isinstance(value, bytes))
        raise InferenceError(
            f"The model returned bytes that are not UTF-8 text, in {names}. To send them as base64, set "
            "ser_json_bytes='base64' in the response model's config."
        ) from None
    fields: dict[str, Any] = _with_names_of_numbers(values, response.model_dump(exclude_none=True, by_alias=by_alias))
    return fields


def encode(values: Any) -> bytes:
    """JSON of plain values, including those that orjson rejects."""
    try:
        return orjson.dumps(values)  # pydantic's own writer takes ten times as long for a picture
    except orjson.JSONEncodeError:  # an integer of more than 64 bits, or half a surrogate pair
        return json.dumps(values, separators=(",", ":")).encode()


def _with_names_of_numbers(values: Any, exact: Any) -> Any:
    """The JSON values, with a text where the `exact` value is NaN or Infinity."""
    if isinstance(exact, float) and not math.isfinite(exact):
        return wrong_values.name_of(exact)
    if isinstance(values, dict) and isinstance(exact, dict) and len(values) == len(exact):
        pairs = zip(values.items(), exact.values(), strict=True)
        return {name: _with_names_of_numbers(value, same) for (name, value), same in pairs}
    if isinstance(values, list) and isinstance(exact, list | tuple) and len(values) == len(exact):
        return [_with_names_of_numbers(value, same) for value, same in zip(values, exact, strict=True)]
    return values


# The response depends on the Accept header.
VARIES: Mapping[bytes, bytes] = {b"vary": b"Accept"}


class JSONBytesResponse(Response):
    """A response whose body is JSON already, without the work of Starlette's constructor."""

    media_type = content_negotiation.JSON
    background = None

    def __init__(self, body: bytes, headers: Mapping[bytes, bytes] = VARIES) -> None:
        self.status_code = 200
        self.body = body
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
            *headers.items(),
        ]


def json_as_picture(
    body: bytes, response: type[BaseModel], field: str, *, accept: str | None, model: str, headers: Mapping[str, str]
) -> Response:
    """`picture` for the JSON that `to_json` made. For `image/*`, the picture's own format is used."""
    names = {each.serialization_alias or name: name for name, each in response.model_fields.items()}
    values = {names.get(name, name): value for name, value in orjson.loads(body).items()}
    made = images.media_type(images.decode(values.get(field, "")))
    offers = (content_negotiation.JSON, *content_negotiation.PICTURES)
    media_type = content_negotiation.choose(accept, offers, picture=made or content_negotiation.PICTURES[0])
    return picture(values, field, media_type, model=model, headers=headers)


def picture(values: dict[str, Any], field: str, media_type: str, *, model: str, headers: Mapping[str, str]) -> Response:
    """The bytes of the one picture as the body, and the other fields as `X-…` headers, as far as headers can hold them.

    Raises:
        InferenceError: the field is not base64 text.
        NotAcceptableError: the model made a picture in another format.
    """
    try:
        data = images.decode(values.pop(field, ""))
    except ValueError as error:
        raise InferenceError(f"The model {model} returned a picture that is not base64: {error}.") from None
    made = images.media_type(data)
    if made != media_type:
        raise NotAcceptableError(
            f"The model {model} made a picture of type {made}, not {media_type}. "
            f"Accept {made or content_negotiation.JSON}."
        )
    texts = {name: _header(value) for name, value in values.items()}
    described = {f"X-{name.replace('_', '-').title()}": text for name, text in texts.items() if text}
    return Response(data, headers={**described, **headers}, media_type=media_type)


def _header(value: Any) -> str:
    """A value on one line of ASCII. A long object loses its longest members; `left_out` lists their names."""
    text = value if isinstance(value, str) and value.isascii() and value.isprintable() else json.dumps(value)
    if len(text) <= MAX_HEADER_CHARACTERS:
        return text
    if not isinstance(value, dict):
        return ""
    kept = dict(value)
    left_out: list[str] = []
    while kept and len(text) > MAX_HEADER_CHARACTERS:
        left_out.append(max(kept, key=lambda name: len(json.dumps(kept[name]))))
        kept.pop(left_out[-1])
        text = json.dumps({**kept, "left_out": left_out})
    return text if len(text) <= MAX_HEADER_CHARACTERS else ""
