# SPDX-License-Identifier: Apache-2.0
"""The schema of a form in the OpenAPI document: pictures are files, and a form cannot hold lists and objects."""

from pydantic import BaseModel

from fastapi_triton import Base64Image
from fastapi_triton.endpoints import openapi
from fastapi_triton.endpoints.request_body import validation


class Part(BaseModel):
    name: str


class Body(BaseModel):
    image: Base64Image
    mask: Base64Image | None = None
    steps: int | None = None
    names: list[str] | None = None
    parts: list[Part] | None = None
    part: Part | None = None


def test_optional_pictures_are_files_and_lists_are_omitted() -> None:
    body = openapi.request_body(validation.FORM, model=Body)
    properties = body["requestBody"]["content"][validation.FORM]["schema"]["properties"]
    assert {name: each.get("format", each["type"]) for name, each in properties.items()} == {
        "image": "binary",
        "mask": "binary",
        "steps": "integer",
    }
