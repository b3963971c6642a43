# SPDX-License-Identifier: Apache-2.0
"""The part of `/openapi.json` for generated endpoints: a pure function of model configs, so it needs no server."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from fastapi_triton.core import problem_details
from fastapi_triton.core.paths import MODELS
from fastapi_triton.endpoints import content_negotiation, openapi
from fastapi_triton.endpoints.generated import classification, forms, pictures, sequences
from fastapi_triton.endpoints.generated import schemas as tensor_schemas
from fastapi_triton.endpoints.generated.endpoint import RESPONSE
from fastapi_triton.endpoints.interfaces import COMPLETED
from fastapi_triton.endpoints.openapi import REF
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.endpoints.sse import QUEUED
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig

_TAG = "models"
_CLASS = "Class"
_VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}, "example": "1"}


def paths(configs: Iterable[ModelConfig], *, has_jobs: bool = False) -> dict[str, Any]:
    """The `paths` and `components` of an OpenAPI document for these models, which must have an endpoint.

    With `has_jobs` requests may become background jobs.
    """
    document: dict[str, Any] = {
        "paths": {},
        "components": {
            "schemas": {"Problem": problem_details.SCHEMA, _CLASS: classification.SCHEMA, **tensor_schemas.SHARED}
        },
    }
    for config in configs:
        model_paths, schemas = _of_model(config, has_jobs)
        document["paths"] |= model_paths
        document["components"]["schemas"] |= schemas
    return document


def add_to(document: dict[str, Any], configs: Iterable[ModelConfig], *, has_jobs: bool = False) -> None:
    """Add these models to an app's document. Paths and schemas of the app itself are kept."""
    generated = paths(configs, has_jobs=has_jobs)
    document["paths"] = {**generated["paths"], **document["paths"]}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update({**generated["components"]["schemas"], **schemas})


@lru_cache(maxsize=2000)
def _of_model(config: ModelConfig, has_jobs: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    key = _component_name(config.name)
    schemas = {
        f"{key}.Request": {**_request_schema(config), "example": _request_example(config)},
        f"{key}.Response": {
            **_response_schema(config),
            "example": {each.name: tensor_schemas.example(each, is_output=True) for each in config.outputs},
        },
    }
    operation = _operation(config, key)
    if has_jobs and not config.decoupled and config.sequences is None:
        operation = openapi.with_jobs(operation)
    name = quote(config.name, safe="")
    versioned = {**operation, "operationId": f"{operation['operationId']}_version"}
    return {
        f"{MODELS}/{name}/infer": {"post": operation},
        f"{MODELS}/{name}/versions/{{version}}/infer": {"post": versioned, "parameters": [_VERSION]},
    }, schemas


def _request_schema(config: ModelConfig) -> dict[str, Any]:
    schema = tensor_schemas.object_schema(f"Request to {config.name}", config.inputs, is_output=False)
    if config.inputs and all(tensor.optional for tensor in config.inputs):
        schema["minProperties"] = 1
    if config.sequences is not None:
        sequences.add_to_schema(schema, config.sequences)
    return schema


def _response_schema(config: ModelConfig) -> dict[str, Any]:
    schema = tensor_schemas.object_schema(f"Response of {config.name}", config.outputs, is_output=True)
    classes = {"type": "array", "items": {"$ref": REF.format(model=_CLASS)}}
    for name in classification.max_classes(config):
        schema["properties"][name] = {"anyOf": [schema["properties"][name], classes]}
    return schema


def _component_name(model: str) -> str:
    """A name that OpenAPI allows, and that no other model gets."""
    return "models." + re.sub(r"[^A-Za-z0-9_-]", lambda found: f".{ord(found[0]):x}.", model)


def _operation(config: ModelConfig, key: str) -> dict[str, Any]:
    request: dict[str, Any] = {"$ref": REF.format(model=f"{key}.Request")}
    response: dict[str, Any] = {"$ref": REF.format(model=f"{key}.Response")}
    row = _request_example(config)
    examples: dict[str, Any] = {"one": {"summary": "One request", "value": row}}
    if config.takes_batches:
        batch = {"type": "array", "minItems": 1, "maxItems": config.max_batch_size}
        request = {"anyOf": [request, {**batch, "items": request}]}
        response = {"anyOf": [response, {**batch, "items": response}]}
        examples["batch"] = {"summary": "A batch", "value": [row] * min(2, config.max_batch_size)}
    content: dict[str, Any] = {content_negotiation.JSON: {"schema": response}}
    if config.decoupled:
        content = {content_negotiation.EVENTS: _events(response)}
    elif len(config.image_outputs) == 1:
        content[pictures.PNG] = openapi.BINARY
    bodies: dict[str, Any] = {validation.JSON: {"schema": request, "examples": examples}}
    if forms.takes_forms(config):
        bodies[validation.FORM] = {"schema": forms.schema(config), "example": forms.example(row)}
    return {
        "tags": [_TAG],
        "summary": f"Run {config.name}",
        "description": _description(config),
        "operationId": f"infer_{key}",
        "parameters": _parameters(config),
        "requestBody": {"required": True, "content": bodies},
        "responses": openapi.responses("The model's response", content, 400, 404, 406, 413, 415, 422, 502, 503, 504),
    }


def _parameters(config: ModelConfig) -> list[dict[str, Any]]:
    """The options of the query. Those for pictures are omitted if the model has none."""
    forms_of_arrays = ["list", "npy", "base64"]
    description = (
        "The form of arrays of numbers in the response: nested lists, a `.npy` file in base64, or bytes in base64."
    )
    if config.image_outputs:
        forms_of_arrays.append("png")
        description += " With `png`, arrays that hold pictures are PNG files in base64, and others lists."
    arrays = {"type": "string", "enum": forms_of_arrays, "default": "list"}
    parameters = [{"name": "arrays", "in": "query", "description": description, "schema": arrays}]
    if normalizations := pictures.normalizations(config):
        parameters.append(
            {
                "name": "normalize",
                "in": "query",
                "description": "The range of a picture's values in the tensor: `none` 0 to 255, `unit` 0 to 1, "
                "`inception` -1 to 1, `imagenet` its mean and deviation. The default is in the model's config.",
                "schema": {"type": "string", "enum": normalizations},
            }
        )
    if (classes := classification.parameter(config)) is not None:
        parameters.append(classes)
    return parameters


def _description(config: ModelConfig) -> str:
    sentences = ["The request has a member per input tensor, and the response a member per output tensor."]
    if config.takes_batches:
        rows = "1 row" if config.max_batch_size == 1 else f"up to {config.max_batch_size} rows"
        sentences.append(f"A list of such objects is a batch of {rows}, and its response is a list too.")
        sentences += _rules_of_batches(config) if config.max_batch_size > 1 else []
    if config.decoupled:
        sentences.append("The model is decoupled: it sends any number of responses, as server-sent events.")
    if config.sequences is not None:
        sentences.append(sequences.description(config.sequences))
    sentences.append(f"`GET /models/{config.name}` returns the tensors' datatypes and dims.")
    return " ".join(sentences)


def _rules_of_batches(config: ModelConfig) -> list[str]:
    """What must be the same in all rows of a batch."""
    ragged = [f"`{tensor.name}`" for tensor in config.inputs if tensor.allow_ragged_batch]
    shapes = [f"`{tensor.name}`" for tensor in config.inputs if tensor.is_shape_tensor]
    has_free_dims = any(-1 in tensor.dims and not tensor.allow_ragged_batch for tensor in config.inputs)
    sentences = []
    if has_free_dims:
        sentences.append(f"Each {'other ' * bool(ragged)}tensor must have the same shape in all rows.")
    if ragged:
        sentences.append(
            f"The shape of {', '.join(ragged)} may differ: these rows are requests of their own, which Triton batches."
        )
    if shapes:
        sentences.append(f"The value of {', '.join(shapes)} must be the same in all rows.")
    return sentences


def _events(response: dict[str, Any]) -> dict[str, Any]:
    """The media type object of a stream. `itemSchema` describes one event, as in FastAPI's own documents."""
    completed = {"type": "object", "properties": {"num_responses": {"type": "integer"}}}
    data = [openapi.QUEUED_DATA, response, completed, {"$ref": REF.format(model="Problem")}]
    return {
        "itemSchema": {
            "type": "object",
            "description": f"`{QUEUED}` while the request waits for a slot, `{RESPONSE}` with each JSON response, then "
            f"`{COMPLETED}`, or `error` with a problem object.",
            "required": ["event", "data"],
            "properties": {
                "event": {"enum": [QUEUED, RESPONSE, COMPLETED, "error"]},
                "data": {
                    "type": "string",
                    "contentMediaType": content_negotiation.JSON,
                    "contentSchema": {"anyOf": data},
                },
            },
        }
    }


def _request_example(config: ModelConfig) -> dict[str, Any]:
    """The required inputs. If there are none, only the first, because optional inputs may exclude each other."""
    example = _example([tensor for tensor in config.inputs if not tensor.optional] or config.inputs[:1])
    return example if config.sequences is None else {**example, **sequences.example(config.sequences)}


def _example(tensors: Iterable[TensorConfig]) -> dict[str, Any]:
    return {tensor.name: tensor_schemas.example(tensor) for tensor in tensors}
