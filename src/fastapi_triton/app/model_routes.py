# SPDX-License-Identifier: Apache-2.0
"""`/models`: lists Triton's models, describes each one, and serves the generated endpoints of all by one route."""

from typing import Any

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from fastapi_triton.core import paths
from fastapi_triton.endpoints import openapi, query_options
from fastapi_triton.endpoints.generated import classification, pictures, schemas
from fastapi_triton.endpoints.generated.endpoint import GeneratedEndpoint
from fastapi_triton.endpoints.generated.infer_path import DEFAULT_OPTIONS, InferOptions, InferPath
from fastapi_triton.endpoints.generated.models import Entry, GeneratedModels, first_line
from fastapi_triton.triton.image_dims import Normalize
from fastapi_triton.triton.model_config import Content, ModelConfig, SequenceBatching, TensorConfig


class Version(BaseModel):
    """One version of a model, as Triton reports it."""

    version: str
    state: str
    reason: str = ""


class ModelSummary(BaseModel):
    """A model in Triton's repositories. Without a generated endpoint, `endpoint` is null and `reason` says why."""

    name: str
    ready: bool
    endpoint: str | None
    reason: str | None
    versions: list[Version]


class Models(BaseModel):
    """Every model in Triton's repositories."""

    models: list[ModelSummary]


class ImageContract(BaseModel):
    """The picture in a tensor of numbers. `layout` is CHW or HWC; sides of -1 are of any length.

    For floats, `normalize` is the default of the query option, of which `normalizations` lists the values. `use` says
    how a client may send or get the tensor.
    """

    layout: str
    channels: int
    height: int
    width: int
    normalize: Normalize | None = None
    normalizations: list[Normalize] = []
    use: str


class TensorContract(BaseModel):
    """One input or output. `dims` do not include the batch dimension; -1 means any length.

    `content` is what a BYTES tensor holds. A shape tensor is equal in all rows of a batch.
    """

    name: str
    datatype: str
    dims: list[int]
    example: Any
    content: Content | None = None
    is_shape_tensor: bool = False
    image: ImageContract | None = None


class InputContract(TensorContract):
    """An input. `left_out` is the reason why the endpoint does not take this optional input.

    `allow_ragged_batch`: its shape may differ in the rows of a batch.
    """

    optional: bool
    allow_ragged_batch: bool = False
    left_out: str | None = None


class OutputContract(TensorContract):
    """An output. `max_classes` is the highest value of the query option `classes`, if it applies to the output."""

    max_classes: int | None = None


class SequenceContract(BaseModel):
    """The sequences of a model that keeps state. Ids are of `id_datatype`; without it, whole numbers or text."""

    id_datatype: str | None = None
    max_idle_s: float


class ModelContract(ModelSummary):
    """A model's inputs and outputs. `warnings` lists the hints in its config that have no effect.

    `sequences` says that requests need a sequence id. A model that is not ready has only the members of its summary.
    """

    max_batch_size: int | None = None
    decoupled: bool | None = None
    sequences: SequenceContract | None = None
    inputs: list[InputContract] = []
    outputs: list[OutputContract] = []
    warnings: list[str] = []


def router(generated: GeneratedModels, endpoint: GeneratedEndpoint) -> APIRouter:
    """The routes under `/models`; requests for all models go to `endpoint`."""
    routes = APIRouter(prefix=paths.MODELS, tags=["models"])

    # Members that do not apply are omitted.
    @routes.get(
        "",
        summary="List the models of Triton",
        responses=openapi.errors(502, 503, 504),
        response_model_exclude_defaults=True,
    )
    async def models() -> Models:
        generated.require_read()
        return Models(models=[ModelSummary(**_summary(entry)) for entry in generated.entries])

    @routes.get(
        "/{name}",
        summary="Inputs and outputs of a model",
        responses=openapi.errors(404, 502, 503, 504),
        response_model_exclude_defaults=True,
    )
    async def model(name: str) -> ModelContract:
        await generated.confirm(name)
        return _contract(generated.entry(name))

    # The OpenAPI document lists a path for each model instead: see `generated_openapi`.
    @routes.post("/{name}/infer", include_in_schema=False)
    async def infer(request: Request, name: str) -> Response:
        return await endpoint(request, InferPath(name, "", _options(request)))

    @routes.post("/{name}/versions/{version}/infer", include_in_schema=False)
    async def infer_version(request: Request, name: str, version: str) -> Response:
        return await endpoint(request, InferPath(name, version, _options(request)))

    return routes


def _options(request: Request) -> InferOptions:
    """The options of a query.

    Raises:
        InvalidRequestError: an option is unknown or repeated.
        RequestValidationError: an option has an invalid value.
    """
    options = query_options.read(request.scope, InferOptions.model_fields)
    if not options:
        return DEFAULT_OPTIONS
    try:
        return InferOptions.model_validate(options)
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("query", *each["loc"])} for each in error.errors()]) from None


def _summary(entry: Entry) -> dict[str, Any]:
    obstacles = entry.endpoint.obstacles if entry.endpoint else [entry.reason]
    return {
        "name": entry.name,
        "ready": bool(entry.versions),
        "endpoint": None if obstacles else InferPath(entry.name).path,
        "reason": "; ".join(obstacles) or None,
        "versions": [
            Version(version=each.version, state=each.state, reason=first_line(each.reason))
            for each in entry.statuses
            if each.version
        ],
    }


def _contract(entry: Entry) -> ModelContract:
    if entry.endpoint is None:
        return ModelContract(**_summary(entry))
    config, left_out = entry.endpoint.full_config, entry.endpoint.left_out
    return ModelContract(
        **_summary(entry),
        max_batch_size=config.max_batch_size,
        decoupled=config.decoupled,
        sequences=_sequences(config.sequences),
        inputs=[_input(config, tensor, left_out.get(tensor.name)) for tensor in config.inputs],
        outputs=[_output(config, tensor) for tensor in config.outputs],
        warnings=list(config.useless_hints),
    )


def _image(config: ModelConfig, tensor: TensorConfig, *, is_output: bool) -> ImageContract | None:
    image = tensor.image
    if image is None:
        return None
    use = f"a file in a form (curl -F {tensor.name}=@photo.jpg), base64 text in JSON, or an array"
    if is_output:
        is_only_one = len(config.image_outputs) == 1 and not config.decoupled
        use = "an array, or PNG in base64 by ?arrays=png" + f", or the file by Accept: {pictures.PNG}" * is_only_one
    return ImageContract(
        layout="CHW" if image.channels_first else "HWC",
        channels=image.num_channels,
        height=image.height,
        width=image.width,
        normalize=tensor.normalize if image.normalizations else None,
        normalizations=list(image.normalizations),
        use=use,
    )


def _sequences(batching: SequenceBatching | None) -> SequenceContract | None:
    if batching is None:
        return None
    datatype = batching.id_datatype
    return SequenceContract(id_datatype=None if datatype is None else datatype.wire, max_idle_s=batching.max_idle_s)


def _input(config: ModelConfig, tensor: TensorConfig, left_out: str | None) -> InputContract:
    return InputContract(
        **_tensor(config, tensor, is_output=False),
        optional=tensor.optional,
        allow_ragged_batch=tensor.allow_ragged_batch,
        left_out=left_out,
    )


def _output(config: ModelConfig, tensor: TensorConfig) -> OutputContract:
    max_classes = classification.max_classes(config).get(tensor.name)
    return OutputContract(**_tensor(config, tensor, is_output=True), max_classes=max_classes)


def _tensor(config: ModelConfig, tensor: TensorConfig, *, is_output: bool) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype.wire,
        "dims": list(tensor.dims),
        "example": schemas.example(tensor, is_output=is_output),
        "content": tensor.content,
        "is_shape_tensor": tensor.is_shape_tensor,
        "image": _image(config, tensor, is_output=is_output),
    }
