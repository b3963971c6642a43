# SPDX-License-Identifier: Apache-2.0
"""Jobs of generated endpoints: the request is a JSON body, which must fit the model's config when the job runs."""

import json
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from fastapi_triton.core.errors import (
    GoneError,
    InvalidRequestError,
    ModelNotReadyError,
    NotFoundError,
    TooLargeError,
    UnreadableRequestError,
)
from fastapi_triton.endpoints import content_negotiation, images, responses, seeds
from fastapi_triton.endpoints.generated import pictures
from fastapi_triton.endpoints.generated.batches import Inputs
from fastapi_triton.endpoints.generated.codec import GeneratedModel
from fastapi_triton.endpoints.generated.endpoint import GeneratedEndpoint, GeneratedTranslation, in_thread_if_long
from fastapi_triton.endpoints.generated.infer_path import InferPath
from fastapi_triton.endpoints.interfaces import ProgressListener
from fastapi_triton.endpoints.request_body import json_text
from fastapi_triton.jobs.interfaces import JobRequest
from fastapi_triton.jobs.results import HEADERS, RAW_HEADERS
from fastapi_triton.triton.model_config import ModelConfig

# How the base64 of every PNG file begins.
_PNG_IN_BASE64 = b"iVBORw0KGgo"


class GeneratedJobs:
    """The `JobEndpoint` of a generated endpoint: a model, with or without a version."""

    def __init__(self, endpoint: GeneratedEndpoint, address: InferPath) -> None:
        self._endpoint = endpoint
        self._address = address

    async def read(self, request: Request) -> JobRequest:
        model = self._endpoint.model(self._address)
        translation = GeneratedTranslation(self._endpoint, model, self._address, request)
        await self._endpoint.services.pipeline.read(translation, request.receive)
        await translation.inputs()
        body = translation.body
        address = self._address
        if translation.media_type == pictures.PNG:  # the job's result is JSON, and `reply` returns its picture
            address = replace(address, options=address.options.model_copy(update={"arrays": "png"}))
        values, stored = await in_thread_if_long(len(body), _seeded, model.config, body)
        return JobRequest(address.path, content_negotiation.JSON, values, stored)

    async def run(self, stored: bytes, listener: ProgressListener) -> bytes:
        translation = _StoredRequest(self._endpoint, self._model(), self._address, stored, listener)
        return await self._endpoint.services.pipeline.serve_stored(translation)

    def _model(self) -> GeneratedModel:
        """The model as it is now.

        Raises:
            GoneError: the model was removed or unloaded, or takes no jobs now.
            ModelNotReadyError: the model is loading, or failed to load. It may be ready later.
        """
        try:
            model = self._endpoint.model(self._address)
        except NotFoundError as error:
            raise _gone(error.detail) from None
        except InvalidRequestError as error:
            raise _changed(error.detail) from None
        except ModelNotReadyError:
            if self._endpoint.is_unloaded(self._address):
                raise _gone(f"The model {self._address.model} was unloaded.") from None
            raise
        if model.config.decoupled:
            raise _changed("the model is decoupled now.")
        if model.config.sequences is not None:
            raise _changed("it is a sequence model now.")
        return model

    def reply(self, result: bytes, accept: str | None) -> Response:
        picture = _picture(result)
        offers = [content_negotiation.JSON, *([pictures.PNG] if picture else [])]
        if content_negotiation.choose(accept, offers, picture=pictures.PNG) == content_negotiation.JSON:
            return responses.JSONBytesResponse(result, RAW_HEADERS)
        return Response(picture, headers=HEADERS, media_type=pictures.PNG)


class _StoredRequest(GeneratedTranslation):
    """A stored request. Before it waits for a slot, it is checked against the model's current config."""

    tensors: Inputs

    def __init__(
        self,
        endpoint: GeneratedEndpoint,
        model: GeneratedModel,
        address: InferPath,
        stored: bytes,
        listener: ProgressListener,
    ) -> None:
        super().__init__(endpoint, model, address)
        self.body = stored
        self._listener = listener
        self.ticket = listener.ticket

    async def read(self, _: Receive) -> None:
        """Nothing to read: the body is stored."""

    async def prepare(self) -> None:
        try:
            self.tensors = await self.inputs()
        except (InvalidRequestError, TooLargeError, UnreadableRequestError) as error:
            raise _changed(error.detail) from None

    async def run(self) -> None:
        await self._listener.started()
        self.result = await self.infer(self.tensors)


def _picture(result: bytes) -> bytes | None:
    """The PNG in a result that has exactly one."""
    if _PNG_IN_BASE64 not in result:
        return None
    rows = orjson.loads(result)
    members = rows if isinstance(rows, dict) else rows[0] if len(rows) == 1 else {}
    found = [each for each in members.values() if isinstance(each, str) and each.encode().startswith(_PNG_IN_BASE64)]
    return images.decode(found[0]) if len(found) == 1 else None


def _gone(reason: str) -> GoneError:
    return GoneError(f"The job's endpoint no longer exists. {reason}", code="endpoint_gone")


def _changed(reason: str) -> GoneError:
    return GoneError(
        f"The endpoint has changed since the job was accepted, and no longer accepts its request: {reason}",
        code="endpoint_changed",
    )


def _seeded(config: ModelConfig, body: bytes) -> tuple[Any, bytes]:
    """The values of a valid body, and the body with a drawn seed for each row without one."""
    values = json_text.parse(body)
    seed = config.input(seeds.FIELD)
    if seed is None or not seed.optional or not seed.is_scalar or seed.datatype.kind != "integer":
        return values, body
    bits = seed.datatype.integer_range[1].bit_length()
    rows = values if isinstance(values, list) else [values]
    seeded = [
        {**row, seeds.FIELD: seeds.draw(bits)} if seeds.is_missing(row.get(seeds.FIELD)) else row  # a row is an object
        for row in rows
    ]
    return values, json.dumps(seeded if isinstance(values, list) else seeded[0]).encode()
