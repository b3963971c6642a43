# SPDX-License-Identifier: Apache-2.0
"""Jobs of declared endpoints: the request is one of a pydantic model, the answer may be a picture."""

import logging
import secrets

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.core.errors import GoneError, InvalidRequestError
from fastapi_triton.endpoints import content_negotiation, responses
from fastapi_triton.endpoints.declared.endpoint import InferEndpoint, Listener
from fastapi_triton.jobs.interfaces import NO_SEED, SEED_FIELD, Asked, Work
from fastapi_triton.jobs.results import HEADERS, RAW_HEADERS

logger = logging.getLogger(__name__)

# How large a drawn seed may be; JavaScript keeps 53 bits exact.
_SEED_BITS = (53, 32, 31, 16)


class DeclaredWork:
    """A `JobEndpoint`."""

    def __init__(self, endpoint: InferEndpoint) -> None:
        self._endpoint = endpoint

    async def asked(self, request: Request) -> Asked:
        media_type, body = await self._endpoint.read(request.scope, request.receive)
        self._endpoint.require_fitting(body)
        return Asked(
            self._endpoint.path,
            media_type,
            body.model_dump(mode="json", exclude_unset=True, round_trip=True),
            self._with_seed(body).model_dump_json(exclude_unset=True, round_trip=True).encode(),
        )

    def work(self, kept: bytes) -> Work:
        endpoint = self._endpoint
        try:
            body = endpoint.request_model.model_validate_json(
                kept, by_alias=False, by_name=True, context=endpoint.image_limits
            )
        except ValidationError as error:
            logger.error("a job's request no longer fits %s: %s", endpoint.path, error)
            raise GoneError(
                "The endpoint has changed since the job was accepted, and takes its request no more.",
                code="endpoint_changed",
            ) from None

        async def answer(listener: Listener) -> bytes:
            await endpoint.declaration.require_ready()
            return responses.to_json(await endpoint.answer(body, listener=listener))

        return answer

    def _with_seed(self, body: BaseModel) -> BaseModel:
        """The request with its seed drawn, so that it gives the same answer however often it is run."""
        if SEED_FIELD not in type(body).model_fields or getattr(body, SEED_FIELD) not in NO_SEED:
            return body
        for bits in _SEED_BITS:
            seeded = body.model_copy()
            try:
                type(body).__pydantic_validator__.validate_assignment(seeded, SEED_FIELD, secrets.randbits(bits))
                self._endpoint.require_fitting(seeded)
            except (ValidationError, InvalidRequestError):  # larger than the endpoint allows, or not an integer
                continue
            return seeded
        return body

    def reply(self, result: bytes, accept: str | None) -> Response:
        endpoint = self._endpoint
        offers = [each for each in endpoint.offers if each != content_negotiation.EVENTS]
        if content_negotiation.choose(accept, offers) == content_negotiation.JSON or endpoint.picture_field is None:
            return responses.JSONAnswer(result, RAW_HEADERS)
        return responses.json_as_picture(
            result,
            endpoint.response_model,
            endpoint.picture_field,
            accept=accept,
            model=endpoint.model,
            headers=HEADERS,
        )
