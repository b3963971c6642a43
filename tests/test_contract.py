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


TWIN = ModelConfig(
    name="m_stream",
    max_batch_size=0,
    inputs=(
        *(replace(each, optional=True) for each in CONFIG.inputs if len(each.dims) == 1),
        tensor("preview_every", "TYPE_INT32", optional=True),
    ),
    outputs=(tensor("event", "TYPE_STRING"), *CONFIG.outputs),
    decoupled=True,
)


class Streamable(BaseModel):
    prompt: str
    scale: float = 1.0
    preview_every: int | None = None


def test_a_declaration_may_have_fields_that_only_the_twin_takes() -> None:
    assert mismatches(Streamable, Answer, CONFIG, TWIN) == []
    (told,) = mismatches(Streamable, Answer, CONFIG)
    assert "`Streamable.preview_every`" in told


def test_a_declaration_is_held_against_the_twin_as_well() -> None:
    class Wide(Streamable):
        weights: list[list[float]] | None = None

    twin = replace(TWIN, outputs=TWIN.outputs[:2])
    assert mismatches(Wide, Answer, CONFIG, twin) == [
        "`Wide.weights`: the model m_stream has no input of that name; known are `prompt`, `scale`, `steps`, `tile`, "
        "`preview_every`",
        "`Answer.seed`: the model m_stream has no output of that name; known are `event`, `picture`",
        "`Answer.info`: the model m_stream has no output of that name; known are `event`, `picture`",
    ]


def test_what_both_miss_is_told_of_both() -> None:
    class Wrong(Streamable):
        promt: str

    told = mismatches(Wrong, Answer, CONFIG, TWIN)
    assert [each.split(": ")[1].split(" has ")[0] for each in told] == ["the model m", "the model m_stream"]


def test_a_twin_must_be_one() -> None:
    plain = replace(TWIN, decoupled=False, max_batch_size=4, outputs=CONFIG.outputs)
    assert mismatches(Streamable, Answer, CONFIG, plain) == [
        "the model m_stream is not decoupled, so it cannot be the stream model",
        "the stream model m_stream must have max_batch_size 0",
        "the stream model m_stream must have an output `event` of TYPE_STRING",
    ]


@pytest.mark.parametrize(("datatype", "dims"), [("TYPE_FP16", (1,)), ("TYPE_BF16", (1,)), ("TYPE_FP32", (-1, 3))])
def test_a_twin_has_only_what_a_stream_can_carry(datatype: str, dims: tuple[int, ...]) -> None:
    twin = replace(TWIN, inputs=(*TWIN.inputs, tensor("extra", datatype, dims, optional=True)))
    (told,) = mismatches(Streamable, Answer, CONFIG, twin)
    assert told.startswith(f"the stream model's `extra` is {datatype} with dims {list(dims)}")
