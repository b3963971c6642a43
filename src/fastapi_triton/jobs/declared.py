# SPDX-License-Identifier: Apache-2.0
"""Jobs of declared endpoints: the request is a pydantic model, and the result may be a picture."""

import logging

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from fastapi_triton.core.errors import GoneError, InvalidRequestError
from fastapi_triton.endpoints import content_negotiation, responses, seeds
from fastapi_triton.endpoints.declared.endpoint import DeclaredTranslation, InferEndpoint
from fastapi_triton.endpoints.interfaces import ProgressListener
from fastapi_triton.jobs.interfaces import JobRequest
from fastapi_triton.jobs.results import HEADERS, RAW_HEADERS

logger = logging.getLogger(__name__)

# The sizes of drawn seeds, the largest first: the first one that the endpoint allows is used.
_SEED_BITS = (53, 32, 31, 16)


class DeclaredJobs:
    """The `JobEndpoint` of a declared endpoint."""

    def __init__(self, endpoint: InferEndpoint) -> None:
        self._endpoint = endpoint

    async def read(self, request: Request) -> JobRequest:
        translation = DeclaredTranslation(self._endpoint, request.scope)
        await self._endpoint.services.pipeline.read(translation, request.receive)
        body = translation.body
        self._endpoint.require_fitting(body)
        return JobRequest(
            self._endpoint.path,
            translation.media_type,
            body.model_dump(mode="json", exclude_unset=True, round_trip=True),
            self._with_seed(body).model_dump_json(exclude_unset=True, round_trip=True).encode(),
        )

    async def run(self, stored: bytes, listener: ProgressListener) -> bytes:
        translation = _StoredRequest(self._endpoint, stored, listener)
        return await self._endpoint.services.pipeline.serve_stored(translation)

    def _with_seed(self, body: BaseModel) -> BaseModel:
        """The request with a drawn seed, so that each run gives the same result."""
        if seeds.FIELD not in type(body).model_fields or not seeds.is_missing(getattr(body, seeds.FIELD)):
            return body
        for bits in _SEED_BITS:
            seeded = body.model_copy()
            try:
                type(body).__pydantic_validator__.validate_assignment(seeded, seeds.FIELD, seeds.draw(bits))
                self._endpoint.require_fitting(seeded)
            except (ValidationError, InvalidRequestError):  # larger than the endpoint allows, or not an integer
                continue
            return seeded
        return body

    def reply(self, result: bytes, accept: str | None) -> Response:
        endpoint = self._endpoint
        offers = [each for each in endpoint.offers if each != content_negotiation.EVENTS]
        if content_negotiation.choose(accept, offers) == content_negotiation.JSON or endpoint.picture_field is None:
            return responses.JSONBytesResponse(result, RAW_HEADERS)
        return responses.json_as_picture(
            result,
            endpoint.response_model,
            endpoint.picture_field,
            accept=accept,
            model=endpoint.model,
            headers=HEADERS,
        )


class _StoredRequest(DeclaredTranslation):
    """A stored request. Its result is JSON."""

    def __init__(self, endpoint: InferEndpoint, stored: bytes, listener: ProgressListener) -> None:
        super().__init__(endpoint, {"headers": ()})
        self.stops_on_disconnect = False
        self._stored = stored
        self._listener = listener
        self.ticket = listener.ticket

    async def read(self, _: Receive) -> None:
        endpoint = self.endpoint
        try:
            self.body = endpoint.request_model.model_validate_json(
                self._stored, by_alias=False, by_name=True, context=endpoint.services.image_limits
            )
        except ValidationError as error:
            logger.error("a job's request no longer fits %s: %s", endpoint.path, error)
            raise GoneError(
                "The endpoint has changed since the job was accepted, and no longer accepts its request.",
                code="endpoint_changed",
            ) from None

    async def prepare(self) -> None:
        await self.endpoint.declaration.require_ready()

    async def run(self) -> None:
        await self._listener.started()
        self.result = await self.endpoint.run(self.body, self._listener)
