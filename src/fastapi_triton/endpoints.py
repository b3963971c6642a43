# SPDX-License-Identifier: Apache-2.0
"""A declared endpoint: request model → tensors → Triton → tensors → response model, or the picture itself."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton import bodies, contract, images, negotiate, tensors
from fastapi_triton.admission import Admission
from fastapi_triton.errors import (
    ContractError,
    FastAPITritonError,
    InferenceError,
    NotAcceptableError,
    TritonUnavailableError,
)
from fastapi_triton.middleware.request_id import current_request_id
from fastapi_triton.model_config import ModelConfig
from fastapi_triton.settings import Settings
from fastapi_triton.triton.client import TritonClient

logger = logging.getLogger(__name__)

# The field by which our models are told how to write the picture.
FORMAT_FIELD = "output_format"


@dataclass(frozen=True, slots=True)
class Services:
    """What every endpoint of an app shares."""

    triton: TritonClient
    admission: Admission
    settings: Settings


class InferEndpoint:
    """One Triton model behind one route. Fields are tensors by name."""

    def __init__(
        self, path: str, *, model: str, request: type[BaseModel], response: type[BaseModel], services: Services
    ) -> None:
        self.path = path
        self.model = model
        self.request_model = bodies.strict(request)
        self.response_model = response
        self._services = services
        self._limits = images.ImageLimits(max_pixels=services.settings.max_image_pixels)
        self._config: ModelConfig | None = None
        pictures = [name for name, field in response.model_fields.items() if images.is_image(field.metadata)]
        self.picture_field = pictures[0] if len(pictures) == 1 else None
        self.offers = (negotiate.JSON, *(negotiate.PICTURES if self.picture_field else ()))

    async def require_ready(self) -> None:
        """Raise what a caller would meet now, if anything: the model is not ready, or the contract is broken."""
        triton = self._services.triton
        try:
            is_ready = await triton.ready(self.model)
        except FastAPITritonError:
            self._config = None
            raise
        if not is_ready:
            self._config = None  # what comes back may have another config
            # config() says in words why the model is not there
            await triton.config(self.model)
            raise TritonUnavailableError(f"Triton says that the model {self.model} is not ready.", retry_after_s=1.0)
        await self._held_config()

    async def __call__(self, request: Request) -> Response:
        """Serve one request."""
        media_type = negotiate.choose(request.headers.get("accept"), self.offers)
        body = await bodies.read(
            request, self.request_model, limits=self._limits, max_bytes=self._services.settings.max_body_bytes
        )
        fields = {name: getattr(body, name) for name in self.request_model.model_fields}
        if media_type != negotiate.JSON:
            media_type = self._ask_for(request, fields)
        started = time.perf_counter()
        answer = await self._infer(fields)
        duration_ms = 1000 * (time.perf_counter() - started)
        reply = self._json(answer) if media_type == negotiate.JSON else self._picture(answer, media_type)
        reply.headers["Server-Timing"] = f"triton;dur={duration_ms:.1f}"
        reply.headers["Vary"] = "Accept"
        return reply

    def _ask_for(self, request: Request, fields: dict[str, Any]) -> str:
        """Have the model write the format that the caller accepts. Gives its media type."""
        wanted = fields.get(FORMAT_FIELD)
        named = next((media for media, name in negotiate.FORMAT_NAMES.items() if name == wanted), None)
        media_type = negotiate.choose(
            request.headers.get("accept"), self.offers, picture=named or negotiate.PICTURES[0]
        )
        if named is not None and named != media_type:
            raise NotAcceptableError(
                f"Accept asks for {media_type}, but `{FORMAT_FIELD}` for {wanted}. Leave one of them out."
            )
        if FORMAT_FIELD in self.request_model.model_fields:
            fields[FORMAT_FIELD] = negotiate.FORMAT_NAMES[media_type]
        return media_type

    async def _infer(self, fields: Mapping[str, Any]) -> BaseModel:
        with self._services.admission.slot():
            config = await self._held_config()
            inputs = tensors.from_fields(fields, config)
            try:
                outputs = await self._services.triton.infer(
                    self.model,
                    inputs,
                    outputs=list(self.response_model.model_fields),
                    request_id=current_request_id.get(),
                )
            except TritonUnavailableError:
                self._config = None  # what comes back may have another config
                raise
        try:
            return self.response_model.model_validate(tensors.to_fields(outputs, config))
        except ValidationError as error:
            logger.error("model %s: its answer does not fit %s: %s", self.model, self.response_model.__name__, error)
            raise InferenceError(f"The model {self.model} gave an answer that does not fit its contract.") from None

    async def _held_config(self) -> ModelConfig:
        """The model's config, held against the declaration once for as long as Triton stays up."""
        if self._config is not None:
            return self._config
        config = await self._services.triton.config(self.model)
        problems = contract.mismatches(self.request_model, self.response_model, config)
        if problems:
            logger.error("%s does not fit the model %s:\n  %s", self.path, self.model, "\n  ".join(problems))
            raise ContractError(
                f"This endpoint does not fit the config of the model {self.model}: {'; '.join(problems)}.",
                mismatches=problems,
            )
        self._config = config
        return config

    def _json(self, answer: BaseModel) -> Response:
        return Response(answer.model_dump_json(exclude_none=True), media_type=negotiate.JSON)

    def _picture(self, answer: BaseModel, media_type: str) -> Response:
        """The bytes of the one picture; the other fields as `X-…` headers."""
        values = answer.model_dump(mode="json", exclude_none=True)
        try:
            data = images.decode(values.pop(self.picture_field or "", ""))
        except ValueError as error:
            raise InferenceError(
                f"The model {self.model} answered with a picture that is no base64: {error}."
            ) from None
        made = images.media_type(data)
        if made != media_type:
            raise NotAcceptableError(f"The model {self.model} made a picture of type {made}, not {media_type}.")
        headers = {f"X-{name.replace('_', '-').title()}": _header(value) for name, value in values.items()}
        return Response(data, headers=headers, media_type=media_type)


def _header(value: Any) -> str:
    """A value on one line of ASCII."""
    return value if isinstance(value, str) and value.isascii() and value.isprintable() else json.dumps(value)
