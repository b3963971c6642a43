# SPDX-License-Identifier: Apache-2.0
"""A declaration that does not fit a config is told so in words, all of it at once."""

from dataclasses import replace
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, Json

import main
from fastapi_triton import Base64Image
from fastapi_triton.contract import mismatches
from fastapi_triton.datatypes import BY_CONFIG
from fastapi_triton.model_config import ModelConfig, TensorConfig


def tensor(name: str, datatype: str, dims: tuple[int, ...] = (1,), *, optional: bool = False) -> TensorConfig:
    return TensorConfig(name, BY_CONFIG[datatype], dims, optional)


CONFIG = ModelConfig(
    name="m",
    max_batch_size=8,
    inputs=(
        tensor("prompt", "TYPE_STRING"),
        tensor("scale", "TYPE_FP32"),
        tensor("steps", "TYPE_INT32", optional=True),
        tensor("weights", "TYPE_FP32", (-1, 3), optional=True),
        tensor("tile", "TYPE_BOOL", optional=True),
    ),
    outputs=(tensor("picture", "TYPE_STRING"), tensor("seed", "TYPE_INT64"), tensor("info", "TYPE_STRING")),
)


class Fitting(BaseModel):
    prompt: Annotated[str, Field(min_length=1)]
    scale: float = 1.0
    steps: int | None = None
    weights: list[list[float]] | None = None
    tile: bool | None = None


class Answer(BaseModel):
    picture: Base64Image
    seed: int
    info: Json[dict[str, Any]]


def test_a_declaration_that_fits_has_no_mismatch() -> None:
    assert mismatches(Fitting, Answer, CONFIG) == []


def test_the_scribble_app_fits_the_config_that_comes_with_it(scribble_config: ModelConfig) -> None:
    assert mismatches(main.ScribbleRequest, main.ScribbleResponse, scribble_config) == []


def test_every_mismatch_is_listed_at_once() -> None:
    class Wrong(BaseModel):
        promt: str
        scale: str
        steps: float | None = None
        weights: float | None = None
        tile: Literal["yes", "no"] | None = None

    class WrongAnswer(BaseModel):
        image: str
        seed: str

    told = mismatches(Wrong, WrongAnswer, CONFIG)
    assert told == [
        "`Wrong.promt`: the model m has no input of that name; did you mean `prompt`?",
        "`WrongAnswer.image`: the model m has no output of that name; known are `picture`, `seed`, `info`",
        "the model's input `prompt` is required, but Wrong has no such field",
        "`Wrong.scale` is declared as str, but the tensor is TYPE_FP32",
        "`Wrong.steps` is declared as float, but the tensor is TYPE_INT32",
        "`Wrong.weights` is a single value, but the tensor has dims [-1, 3]",
        "`Wrong.tile` is declared as str, but the tensor is TYPE_BOOL",
        "`Wrong.tile` is declared as str, but the tensor is TYPE_BOOL",
        "`WrongAnswer.seed` is declared as str, but the tensor is TYPE_INT64",
    ]


def test_a_required_input_cannot_be_left_out() -> None:
    class Lax(Fitting):
        scale: float | None = None  # type: ignore[assignment]

    (told,) = mismatches(Lax, Answer, CONFIG)
    assert "`Lax.scale` may be left out, but the model requires that input" in told


def test_a_decoupled_model_cannot_answer_a_single_request() -> None:
    (told,) = mismatches(Fitting, Answer, replace(CONFIG, decoupled=True))
    assert "decoupled" in told


@pytest.mark.parametrize("datatype", ["TYPE_FP16", "TYPE_FP64", "TYPE_BF16"])
def test_a_float_fits_every_width(datatype: str) -> None:
    inputs = (CONFIG.inputs[0], tensor("scale", datatype), *CONFIG.inputs[2:])
    assert mismatches(Fitting, Answer, replace(CONFIG, inputs=inputs)) == []
