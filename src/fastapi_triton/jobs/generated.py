# SPDX-License-Identifier: Apache-2.0
"""Jobs of generated endpoints: the request is a JSON body for whatever the model takes when the job is run."""

import json
import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.core.errors import (
    GoneError,
    InvalidRequestError,
    ModelNotReadyError,
    NotFoundError,
    TooLargeError,
    UnreadableRequestError,
)
from fastapi_triton.endpoints import content_negotiation, responses
from fastapi_triton.endpoints.declared.endpoint import Listener
from fastapi_triton.endpoints.generated.codec import GeneratedModel, Inputs
from fastapi_triton.endpoints.generated.endpoint import Address, GeneratedEndpoint, apart
from fastapi_triton.endpoints.request_body import json_text, whole
from fastapi_triton.jobs.interfaces import NO_SEED, SEED_FIELD, Asked, Work
from fastapi_triton.jobs.results import RAW_HEADERS
from fastapi_triton.triton.model_config import ModelConfig

# JavaScript keeps so many exact.
_MAX_SEED_BITS = 53


class GeneratedWork:
    """A `JobEndpoint`: one model, of one version or of Triton's choice."""

    def __init__(self, endpoint: GeneratedEndpoint, address: Address) -> None:
        self._endpoint = endpoint
        self._address = address

    async def asked(self, request: Request) -> Asked:
        model = self._endpoint.model(self._address)
        self._endpoint.require_form(model, request)
        body = await whole.read(request.receive)
        await self._endpoint.inputs(model, body)
        told, kept = await apart(len(body), _seeded, model.config, body)
        return Asked(self._address.path, content_negotiation.JSON, told, kept)

    def work(self, kept: bytes) -> Work:
        async def answer(listener: Listener) -> bytes:
            model = self._model()
            inputs = await self._inputs(model, kept)
            with await self._endpoint.place(model):
                await listener.begun()
                return await self._endpoint.run(model, self._address, inputs)

        return answer

    def _model(self) -> GeneratedModel:
        """The model as it is now; one that loads, or failed to, may come yet."""
        try:
            model = self._endpoint.model(self._address)
        except NotFoundError as error:
            raise _gone(error.detail) from None
        except ModelNotReadyError:
            if self._endpoint.is_unloaded(self._address):
                raise _gone(f"The model {self._address.model} was unloaded.") from None
            raise
        if model.config.decoupled:
            raise _changed("the model is decoupled now")
        return model

    async def _inputs(self, model: GeneratedModel, kept: bytes) -> Inputs:
        try:
            return await self._endpoint.inputs(model, kept)
        except (InvalidRequestError, TooLargeError, UnreadableRequestError) as error:
            raise _changed(error.detail) from None

    def reply(self, result: bytes, accept: str | None) -> Response:
        content_negotiation.choose(accept, [content_negotiation.JSON])
        return responses.JSONAnswer(result, RAW_HEADERS)


def _gone(reason: str) -> GoneError:
    return GoneError(f"The job's endpoint has gone since it was accepted. {reason}", code="endpoint_gone")


def _changed(reason: str) -> GoneError:
    return GoneError(
        f"The endpoint has changed since the job was accepted, and takes its request no more: {reason}",
        code="endpoint_changed",
    )


def _seeded(config: ModelConfig, body: bytes) -> tuple[Any, bytes]:
    """What a valid body says, and the body with the seeds drawn that it leaves to the model."""
    told = json_text.parse(body)
    seed = config.input(SEED_FIELD)
    if seed is None or not seed.optional or not seed.is_scalar or seed.datatype.kind != "integer":
        return told, body
    bits = min(_MAX_SEED_BITS, seed.datatype.integer_range[1].bit_length())
    rows = told if isinstance(told, list) else [told]
    seeded = [
        {**row, SEED_FIELD: secrets.randbits(bits)} if row.get(SEED_FIELD) in NO_SEED else row  # a row is an object
        for row in rows
    ]
    return told, json.dumps(seeded if isinstance(told, list) else seeded[0]).encode()
