# SPDX-License-Identifier: Apache-2.0
"""The example of a request body: valid, with the required fields and those that declare examples."""

import enum
from typing import Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from fastapi_triton import Base64Image
from fastapi_triton.endpoints import images, openapi, request_example


class Mood(enum.Enum):
    GOOD = "good"


class Point(BaseModel):
    x: float
    y: float = 0


class Everything(BaseModel):
    text: str = Field(min_length=6)
    short: str = Field(max_length=2)
    named: str = Field(alias="sent-name", examples=["a house"])
    whole: int = Field(ge=7)
    part: float = Field(gt=0, lt=0.5)
    many: list[int] = Field(min_length=2)
    pair: tuple[int, str]
    point: Point
    mood: Mood
    kind: Literal["a", "b"]
    maybe: bool | None
    scribble: Base64Image
    seed: int | None = None
    colour: str = Field("red", examples=["blue"])


def test_example_has_required_fields_and_those_with_examples() -> None:
    example = request_example.of_model(Everything)
    assert example == {
        "text": "text..",
        "short": "te",
        "sent-name": "a house",
        "whole": 7,
        "part": 0.25,
        "many": [1, 1],
        "pair": [1, "text"],
        "point": {"x": 1},
        "mood": "good",
        "kind": "a",
        "maybe": True,
        "scribble": images.SCRIBBLE,
        "colour": "blue",
    }


class Recursive(BaseModel):
    child: "Recursive"


class Picky(BaseModel):
    word: str

    @field_validator("word")
    @classmethod
    def check(cls, word: str) -> str:
        raise RuntimeError(word)


@pytest.mark.parametrize(("request_model", "num_warnings"), [(Recursive, 0), (Picky, 1)])
def test_there_is_no_example_where_none_can_be_made(
    request_model: type[BaseModel], num_warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert request_example.of_model(request_model) is None
    assert len(caplog.records) == num_warnings  # a validator that raises anything but a ValueError is reported


def test_form_fields_are_files_or_never_null() -> None:
    content = openapi.request_body("multipart/form-data", model=Everything)["requestBody"]["content"]
    fields = content["multipart/form-data"]["schema"]["properties"]
    assert fields["scribble"] == {"type": "string", "format": "binary", "title": "Scribble"}
    assert fields["seed"] == {"type": "integer", "title": "Seed"}
    assert fields["sent-name"]["example"] == "a house"
