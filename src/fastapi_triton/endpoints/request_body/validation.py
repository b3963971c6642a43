# SPDX-License-Identifier: Apache-2.0
"""A request's body (JSON or form) → the endpoint's request model, or an error that lists every problem."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from starlette.types import Receive, Scope

from fastapi_triton.core import wrong_values
from fastapi_triton.core.errors import (
    MAX_PROBLEMS,
    FastAPITritonError,
    FieldProblem,
    InvalidRequestError,
    TooLargeError,
    UnsupportedMediaError,
    invalid_field,
    invalid_request,
    pointer,
    shown,
)
from fastapi_triton.core.suggestions import nearest
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.fields import client_name, sent_names
from fastapi_triton.endpoints.images import ImageLimits
from fastapi_triton.endpoints.request_body import forms, json_text, large_json, long_fields, raw_body

Model = TypeVar("Model", bound=BaseModel)

JSON = "application/json"
FORM = "multipart/form-data"

# pydantic's error types → our codes, which stay the same when pydantic's change.
_CODES = {
    "missing": "missing_field",
    "extra_forbidden": "unknown_field",
    "finite_number": "not_finite",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "multiple_of": "out_of_range",
    "literal_error": "unknown_option",
    "enum": "unknown_option",
    "string_too_short": "too_short",
    "too_short": "too_short",
    "string_too_long": "too_long",
    "too_long": "too_long",
    "invalid_base64": "invalid_base64",
    "not_an_image": "not_an_image",
    "truncated_image": "truncated_image",
    "image_too_complex": "image_too_complex",
    "unsupported_aspect_ratio": "unsupported_aspect_ratio",
    "wrong_shape": "wrong_shape",
    "invalid_array": "invalid_array",
    "invalid_text": "invalid_text",
    "out_of_range": "out_of_range",
    "not_finite": "not_finite",
    "missing_field": "missing_field",
    "repeated_field": "repeated_field",
    "unsupported_parameter": "unsupported_parameter",
}
# The limit of values in the body of a model without lists; commas in a long text count too. Python objects of the wrong
# type take a thousand times the work of their bytes: a megabyte of empty lists takes a second.
FEW_ELEMENTS = 10_000
# The characters that come before nearly every value in JSON.
_MARKS = (b",", b"[", b"{")
# Up to this number, marks are searched one by one. After that all are counted, in pieces of this size, because larger
# ones would need new memory each time.
_FEW_MARKS = 200
_COUNTED_BYTES = 64 * 1024
# Errors of longer JSON do not show values, because pydantic would convert all of it to Python objects.
_SHOWN_BYTES = 64 * 1024
# The length at which a logged text is cut.
_MAX_LOGGED = 1000
# Words of all languages are shorter.
_WITHOUT_SPACES = 100


def strict(model: type[BaseModel]) -> type[BaseModel]:
    """The same model, but NaN is an error, and unknown fields are errors unless the model allows them."""
    config = ConfigDict(allow_inf_nan=False, extra=model.model_config.get("extra") or "forbid")
    return type(
        model.__name__, (model,), {"__module__": model.__module__, "__doc__": model.__doc__, "model_config": config}
    )


async def read(scope: Scope, receive: Receive, model: type[BaseModel], *, limits: ImageLimits) -> BaseModel:
    """Read and validate the body.

    Raises:
        UnsupportedMediaError: the body is neither JSON nor a multipart form.
        UnreadableRequestError: the body does not have the format of its Content-Type.
        InvalidRequestError: the body does not fit the model; the error lists every problem.
        TooLargeError: the body or a picture in it exceeds its limit.
    """
    content_type = _content_type(scope["headers"])
    # Most clients send exactly this value.
    media_type = JSON if content_type == JSON else content_type.partition(";")[0].strip().lower()
    if media_type == JSON or media_type.endswith("+json"):
        body = await raw_body.read(receive)
        if len(body) <= raw_body.LONG_BYTES:
            return from_json(body, model, limits)
        return await raw_body.process(True, from_json, body, model, limits)
    if media_type == FORM:
        body = await raw_body.read(receive)
        is_long = len(body) > raw_body.LONG_BYTES
        # One more than the model has, so that the error can name an unknown field, and one for the charset.
        parts = await raw_body.process(is_long, forms.read, body, content_type, max_parts=len(model.model_fields) + 2)
        del body  # the parts are copies
        return await raw_body.process(is_long, _from_form, parts, model, limits)
    raise UnsupportedMediaError(
        f"The body's Content-Type is {shown(media_type)}; send {JSON}, or a form as {FORM}. "
        "With curl, use -H 'Content-Type: application/json', or -F for each field."
    )


def _content_type(headers: Iterable[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"content-type":
            return value.decode("latin-1")
    return JSON


def require_few_elements(body: bytes, max_elements: int) -> None:
    """Reject JSON with very many values before it is parsed.

    To be fast, it counts commas and opening brackets. A picture's base64 has none.

    Raises:
        TooLargeError: there are more than `max_elements`.
    """
    if len(body) <= max_elements or _has_fewer_marks(body, min(_FEW_MARKS, max_elements)):
        return
    num = sum(_count_marks(body[start : start + _COUNTED_BYTES]) for start in range(0, len(body), _COUNTED_BYTES))
    if num > max_elements:
        raise TooLargeError(
            f"The body holds about {num:,} JSON values; the limit is {max_elements:,}. Send fewer values, or "
            "send arrays as base64 or `npy` where the endpoint takes them.",
            code="too_many_elements",
        )


def _has_fewer_marks(body: bytes, num_left: int) -> bool:
    """Whether it holds few values. Most large bodies do, because a picture is one value. Searching marks one by one is
    many times as fast as counting all."""
    for mark in _MARKS:
        at = body.find(mark)
        while at >= 0:
            num_left -= 1
            if not num_left:
                return False
            at = body.find(mark, at + 1)
    return True


def _count_marks(body: bytes) -> int:
    octets = np.frombuffer(body, np.uint8)
    # "[" and "{" differ in one bit.
    return int(np.count_nonzero(octets == ord(",")) + np.count_nonzero((octets | 0x20) == ord("{")))


@functools.cache
def _holds_lists(model: type[BaseModel]) -> bool:
    """Whether the model has a list without a limit, or an object with any keys: a valid body may hold many values."""
    schema = model.model_json_schema()
    return _has_list(schema.get("properties", {})) or _has_list(schema.get("$defs", {}))


def _has_list(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_has_list, schema))
    if not isinstance(schema, dict):
        return False
    is_open = schema.get("additionalProperties") not in (None, False)
    is_list = schema.get("type") == "array" and "maxItems" not in schema
    return is_list or is_open or any(map(_has_list, schema.values()))


def from_json(body: bytes, model: type[BaseModel], limits: ImageLimits, *, strict: bool = True) -> BaseModel:
    """A JSON body as the model. With `strict`, types are not converted: "1.0" is not a number, and true is not 1."""
    if len(body) <= FEW_ELEMENTS:
        return _validated(body, model, limits, strict=strict)
    require_few_elements(body, limits.max_elements if _holds_lists(model) else FEW_ELEMENTS)
    json_text.require_few_members(body)
    large_json.require_cheap(body, limits.max_text_bytes, long_fields.names(model))
    with json_text.gc_paused():
        return _validated(body, model, limits, strict=strict)


def _validated(body: bytes, model: type[BaseModel], limits: ImageLimits, *, strict: bool) -> BaseModel:
    request = _request_or_error(body, model, limits, strict=strict)
    if isinstance(request, FastAPITritonError):
        try:
            raise request
        finally:
            del request  # the cycle would keep the body until garbage is collected
    num_members = len(request.__pydantic_fields_set__)
    open_fields = _open_fields(model)
    if open_fields is not None:
        values = {name: getattr(request, name) for name in open_fields} | (request.model_extra or {})
        json_text.require_finite(values)
        num_members += sum(map(json_text.num_members, values.values()))
    json_text.require_unique_members(body, num_members)
    return request


def _request_or_error(
    body: bytes, model: type[BaseModel], limits: ImageLimits, *, strict: bool
) -> BaseModel | FastAPITritonError:
    """The request, or the error to raise. Raised here, it would have pydantic's error as its context, which holds
    copies of the rejected values."""
    try:
        return model.model_validate_json(body, strict=strict, context=limits)
    except images.LongPictureError as error:
        field = model.model_fields.get(error.field)
        location = (client_name(error.field, field) if field else error.field,)
        found = ErrorDetails(type=error.code, loc=location, msg=error.reason, input=...)
        return invalid([found], names(model))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=len(body) <= _SHOWN_BYTES)
        if details[0]["type"] == "json_invalid":
            return json_text.unreadable(body, details[0]["msg"])
        return invalid(details, names(model))


@functools.cache
def _open_fields(model: type[BaseModel]) -> Sequence[str] | None:
    """The fields that take any JSON value, in which pydantic accepts NaN. None: there are none, and unknown fields are
    rejected."""
    found = [name for name, field in model.model_fields.items() if _is_open(field.annotation)]
    return found if found or model.model_config.get("extra") == "allow" else None


def _is_open(annotation: Any) -> bool:
    return annotation in (Any, object, dict, list) or any(map(_is_open, get_args(annotation)))


def from_python(
    values: Any, model: type[Model], limits: ImageLimits | None = None, *, location: tuple[str, ...] = ()
) -> Model:
    """Python values as the model; `location` is their path in the body. Raises what `read` raises."""
    try:
        return model.model_validate(values, context=limits)
    except ValidationError as error:
        raise _rejected(error, model, location) from None


def _from_form(parts: list[forms.Part], model: type[BaseModel], limits: ImageLimits) -> BaseModel:
    try:
        return model.model_validate_strings(_form_values(parts, model), context=limits)
    except ValidationError as error:
        raise _rejected(error, model) from None


def _rejected(error: ValidationError, model: type[BaseModel], location: tuple[str, ...] = ()) -> InvalidRequestError:
    details = error.errors(include_url=False)
    for each in details:
        each["loc"] = (*location, *each["loc"])
    return invalid(details, names(model))


def _form_values(parts: list[forms.Part], model: type[BaseModel]) -> dict[str, str | dict[str, str]]:
    """The form's fields as text. A picture's file becomes base64 text, any other file its text. Removes each part from
    the list, so that its memory is freed. The pictures of a list are the values of a dict, since pydantic takes no
    lists of text here."""
    texts = set(names(model)) - _picture_names(model, images.holds_picture)
    values: dict[str, str | dict[str, str]] = {}
    in_lists: dict[str, dict[str, str]] = {name: {} for name in _picture_names(model, images.is_list_of_pictures)}
    while parts:
        part = parts.pop(0)
        # A file with an unknown name may hold any bytes; validation rejects the name.
        value = part.text() if not part.is_file or part.name in texts else part.base64()
        if part.name in in_lists:
            in_lists[part.name][str(len(in_lists[part.name]))] = value
        elif part.name in values:
            raise invalid_field(
                part.name, "repeated_field", f"`{shown(part.name)}` was sent more than once. Send it once."
            )
        else:
            values[part.name] = value
    return values | {name: pictures for name, pictures in in_lists.items() if pictures}


@functools.cache
def _picture_names(model: type[BaseModel], holds: Callable[[FieldInfo], bool]) -> frozenset[str]:
    """The names of the fields in a request that `holds` selects."""
    return frozenset(
        each for name, field in model.model_fields.items() if holds(field) for each in sent_names(name, field)
    )


def logged_texts(body: BaseModel) -> dict[str, str]:
    """The texts of a request that are not pictures, each cut to a length for the log."""
    return {
        name: value[:_MAX_LOGGED]
        for name, field in type(body).model_fields.items()
        if isinstance(value := getattr(body, name), str) and not images.holds_picture(field) and _is_prose(value)
    }


def _is_prose(text: str) -> bool:
    """Whether it is not base64, which has no spaces: a plain text field may hold a picture."""
    return len(text) < _WITHOUT_SPACES or " " in text[:_WITHOUT_SPACES]


def names(model: type[BaseModel]) -> list[str]:
    """The names by which clients send the model's fields."""
    return [client_name(*each) for each in model.model_fields.items()]


def invalid(details: Sequence[ErrorDetails], known: Iterable[str]) -> InvalidRequestError:
    """The error for pydantic's problems; `known` are the members that the body may have."""
    known = list(known)
    return invalid_request(
        [_problem(each, known) for each in details[:MAX_PROBLEMS]], num_unlisted=len(details) - MAX_PROBLEMS
    )


def _problem(details: ErrorDetails, known: Iterable[str]) -> FieldProblem:
    location = details["loc"]
    name = ".".join(shown(str(part)) for part in location)
    kind = details["type"]
    if kind == "missing":
        detail = f"`{name}` is required, but missing."
    elif kind == "extra_forbidden":
        # `known` are the members of the body, not of an object in it.
        detail = f"There is no field `{name}`{nearest(str(location[-1]), known) if len(location) == 1 else ''}"
        detail += "" if detail.endswith("?") else "."
    else:
        detail = wrong_values.sentence(f"`{name}`" if location else "The body", details)
    code = _CODES.get(kind) or ("wrong_type" if kind.endswith(("_type", "_parsing")) else "invalid_value")
    return FieldProblem(pointer(location), code, detail)
