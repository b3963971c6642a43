# SPDX-License-Identifier: Apache-2.0
"""A model's outputs → the endpoint's response model → JSON, or the picture itself."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from fastapi_triton import images, negotiate
from fastapi_triton.errors import InferenceError, NotAcceptableError
from fastapi_triton.fields import list_depths, tensor_names

logger = logging.getLogger(__name__)

# Clients and proxies take 8 KB of headers in all, some only 4; an answer with more is lost on its way.
MAX_HEADER_CHARACTERS = 3000


def read(response: type[BaseModel], values: Mapping[str, Any], *, model: str) -> BaseModel:
    """The values, by tensor, as the response model.

    Raises:
        InferenceError: they do not fit it.
    """
    try:
        return response.model_validate(_fields(response, values), by_alias=False, by_name=True)
    except ValidationError as error:
        # Without the values: they may be what the caller wrote, or a picture.
        reasons = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False)]
        logger.error("model %s: its answer does not fit %s: %s", model, response.__name__, "; ".join(reasons))
        raise InferenceError(f"The model {model} gave an answer that does not fit its contract.") from None


def _fields(response: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    depths = list_depths(response)
    return {
        name: _in_lists(values[tensor], depths[name])
        for name, tensor in tensor_names(response).items()
        if tensor in values
    }


def _in_lists(value: Any, depth: int) -> Any:
    """A tensor of one value comes as that value; where lists are declared it goes back into them."""
    if isinstance(value, list):
        return value
    for _ in range(depth):
        value = [value]
    return value


def to_json(answer: BaseModel) -> bytes:
    """The answer as a caller reads it, in an answer of its own or as the last of the events."""
    values = answer.model_dump(mode="json", exclude_none=True, by_alias=True)
    try:
        return orjson.dumps(values)  # pydantic's own writer takes ten times as long for a picture
    except orjson.JSONEncodeError:  # an integer of more than 64 bits
        return answer.model_dump_json(exclude_none=True, by_alias=True).encode()


# Who asks otherwise is answered in another form.
VARIES: Mapping[bytes, bytes] = {b"vary": b"Accept"}


class JSONAnswer(Response):
    """Bytes that are JSON already, without what Starlette does to learn what they are."""

    media_type = negotiate.JSON
    background = None

    def __init__(self, body: bytes, headers: Mapping[bytes, bytes] = VARIES) -> None:
        self.status_code = 200
        self.body = body
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
            *headers.items(),
        ]


def as_picture(answer: BaseModel, field: str, media_type: str, *, model: str, headers: Mapping[str, str]) -> Response:
    """The bytes of the one picture; the other fields as `X-…` headers, as far as headers can hold them.

    Raises:
        InferenceError: the field holds no base64 text.
        NotAcceptableError: the model made a picture in another format.
    """
    values = answer.model_dump(mode="json", exclude_none=True)
    return picture(values, field, media_type, model=model, headers=headers)


def json_as_picture(
    answer: bytes, response: type[BaseModel], field: str, *, accept: str | None, model: str, headers: Mapping[str, str]
) -> Response:
    """The same of what `to_json` made of an answer; `image/*` is the format that the picture has."""
    names = {each.serialization_alias or name: name for name, each in response.model_fields.items()}
    values = {names.get(name, name): value for name, value in orjson.loads(answer).items()}
    made = images.media_type(images.decode(values.get(field, "")))
    offers = (negotiate.JSON, *negotiate.PICTURES)
    media_type = negotiate.choose(accept, offers, picture=made or negotiate.PICTURES[0])
    return picture(values, field, media_type, model=model, headers=headers)


def picture(values: dict[str, Any], field: str, media_type: str, *, model: str, headers: Mapping[str, str]) -> Response:
    """The same of an answer's fields by name."""
    try:
        data = images.decode(values.pop(field, ""))
    except ValueError as error:
        raise InferenceError(f"The model {model} answered with a picture that is no base64: {error}.") from None
    made = images.media_type(data)
    if made != media_type:
        raise NotAcceptableError(f"The model {model} made a picture of type {made}, not {media_type}.")
    texts = {name: _header(value) for name, value in values.items()}
    told = {f"X-{name.replace('_', '-').title()}": text for name, text in texts.items() if text}
    return Response(data, headers={**told, **headers}, media_type=media_type)


def _header(value: Any) -> str:
    """A value on one line of ASCII; of an object that is too long the longest members go, and `left_out` names them."""
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
