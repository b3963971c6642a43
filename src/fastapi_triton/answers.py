# SPDX-License-Identifier: Apache-2.0
"""A model's outputs → the endpoint's response model → JSON, or the picture itself."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from fastapi_triton import images, negotiate
from fastapi_triton.errors import InferenceError, NotAcceptableError

logger = logging.getLogger(__name__)

# Clients and proxies take 8 KB of headers in all, some only 4; an answer with more is lost on its way.
MAX_HEADER_CHARACTERS = 3000


def read(response: type[BaseModel], fields: Mapping[str, Any], *, model: str) -> BaseModel:
    """The fields as the response model.

    Raises:
        InferenceError: they do not fit it.
    """
    try:
        return response.model_validate({name: fields[name] for name in response.model_fields if name in fields})
    except ValidationError as error:
        logger.error("model %s: its answer does not fit %s: %s", model, response.__name__, error)
        raise InferenceError(f"The model {model} gave an answer that does not fit its contract.") from None


def to_json(answer: BaseModel) -> str:
    """The answer as a caller reads it, in an answer of its own or as the last of the events."""
    return answer.model_dump_json(exclude_none=True)


def as_json(answer: BaseModel) -> Response:
    """The answer as JSON."""
    return Response(to_json(answer), media_type=negotiate.JSON)


def as_picture(answer: BaseModel, field: str, media_type: str, *, model: str) -> Response:
    """The bytes of the one picture; the other fields as `X-…` headers, as far as headers can hold them.

    Raises:
        InferenceError: the field holds no base64 text.
        NotAcceptableError: the model made a picture in another format.
    """
    values = answer.model_dump(mode="json", exclude_none=True)
    try:
        data = images.decode(values.pop(field, ""))
    except ValueError as error:
        raise InferenceError(f"The model {model} answered with a picture that is no base64: {error}.") from None
    made = images.media_type(data)
    if made != media_type:
        raise NotAcceptableError(f"The model {model} made a picture of type {made}, not {media_type}.")
    texts = {name: _header(value) for name, value in values.items()}
    headers = {f"X-{name.replace('_', '-').title()}": text for name, text in texts.items() if text}
    return Response(data, headers=headers, media_type=media_type)


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
