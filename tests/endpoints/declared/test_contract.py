# SPDX-License-Identifier: Apache-2.0
"""Every mismatch between a declaration and a config is described, all at once."""

import enum
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, Json, create_model
from pydantic_core import core_schema
from typing_extensions import TypeAliasType

import main
from fastapi_triton import Base64Image, TensorName
from fastapi_triton.endpoints.declared.contract import mismatches
from fastapi_triton.triton.client import CARRIES_ALL
from fastapi_triton.triton.datatypes import BY_CONFIG
from fastapi_triton.triton.model_config import ModelConfig, SequenceBatching, TensorConfig


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


class Output(BaseModel):
    picture: Base64Image
    seed: int
    info: Json[dict[str, Any]]


def test_a_declaration_that_fits_has_no_mismatch() -> None:
    assert mismatches(Fitting, Output, CONFIG) == []


def test_the_scribble_app_fits_the_config_that_comes_with_it(scribble_config: ModelConfig) -> None:
    assert mismatches(main.ScribbleRequest, main.ScribbleResponse, scribble_config) == []


def test_every_mismatch_is_listed_at_once() -> None:
    class Wrong(BaseModel):
        promt: str
        scale: str
        steps: float | None = None
        weights: float | None = None
        tile: Literal["yes", "no"] | None = None

    class WrongOutput(BaseModel):
        image: str
        seed: str

    assert mismatches(Wrong, WrongOutput, CONFIG) == [
        "`Wrong.promt`: the model m has no input of that name; did you mean `prompt`?",
        "`WrongOutput.image`: the model m has no output of that name; known are `picture`, `seed`, `info`",
        "the model's input `prompt` is required, but Wrong has no such field",
        "`Wrong.scale` is declared as str, but the tensor is TYPE_FP32",
        "`Wrong.steps` is declared as float, but the tensor is TYPE_INT32",
        "`Wrong.weights` is a single value, but the tensor has dims [-1, 3]",
        "`Wrong.tile` is declared as str, but the tensor is TYPE_BOOL",
        "`WrongOutput.seed` is declared as str, but the tensor is TYPE_INT64",
    ]


def test_a_required_input_cannot_be_optional_in_the_request() -> None:
    class Lax(Fitting):
        scale: float | None = None  # type: ignore[assignment]

    (problem,) = mismatches(Lax, Output, CONFIG)
    assert "`Lax.scale` is optional, but the model requires that input" in problem


def test_a_sequence_model_has_no_declared_endpoint() -> None:
    (problem,) = mismatches(Fitting, Output, replace(CONFIG, sequences=SequenceBatching()))
    assert "a sequence id; use its generated endpoint, /models/" in problem


def test_a_decoupled_model_cannot_return_a_single_response() -> None:
    (problem,) = mismatches(Fitting, Output, replace(CONFIG, decoupled=True))
    assert "decoupled" in problem


@pytest.mark.parametrize("datatype", ["TYPE_FP16", "TYPE_FP64", "TYPE_BF16"])
def test_a_float_fits_every_width(datatype: str) -> None:
    inputs = (CONFIG.inputs[0], tensor("scale", datatype), *CONFIG.inputs[2:])
    assert mismatches(Fitting, Output, replace(CONFIG, inputs=inputs)) == []


STREAM_CONFIG = ModelConfig(
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


def test_a_declaration_may_have_fields_that_only_the_stream_model_takes() -> None:
    assert mismatches(Streamable, Output, CONFIG, STREAM_CONFIG) == []
    (problem,) = mismatches(Streamable, Output, CONFIG)
    assert "`Streamable.preview_every`" in problem


def test_a_declaration_is_compared_with_the_stream_model_too() -> None:
    class Wide(Streamable):
        weights: list[list[float]] | None = None

    stream_config = replace(STREAM_CONFIG, outputs=STREAM_CONFIG.outputs[:2])
    assert mismatches(Wide, Output, CONFIG, stream_config) == [
        "`Wide.weights`: the model m_stream has no input of that name; known are `prompt`, `scale`, `steps`, `tile`, "
        "`preview_every`",
        "`Output.seed`: the model m_stream has no output of that name; known are `event`, `picture`",
        "`Output.info`: the model m_stream has no output of that name; known are `event`, `picture`",
    ]


def test_a_field_that_both_models_lack_is_reported_for_both() -> None:
    class Wrong(Streamable):
        promt: str

    problems = mismatches(Wrong, Output, CONFIG, STREAM_CONFIG)
    assert [each.split(": ")[1].split(" has ")[0] for each in problems] == ["the model m", "the model m_stream"]


def test_the_stream_model_must_be_decoupled_without_batches_and_with_events() -> None:
    plain = replace(STREAM_CONFIG, decoupled=False, max_batch_size=4, outputs=CONFIG.outputs)
    assert mismatches(Streamable, Output, CONFIG, plain) == [
        "the model m_stream is not decoupled, so it cannot be the stream model",
        "the stream model m_stream must have max_batch_size 0",
        "the stream model m_stream must have an output `event` of TYPE_STRING",
    ]


@pytest.mark.parametrize(
    ("datatype", "dims", "reason"),
    [("TYPE_FP16", (1,), "is FP16"), ("TYPE_BF16", (1,), "is BF16"), ("TYPE_FP32", (-1, -1), "has the dims [-1, -1]")],
)
def test_tensors_that_a_stream_cannot_hold_are_reported(datatype: str, dims: tuple[int, ...], reason: str) -> None:
    inputs = (*STREAM_CONFIG.inputs, tensor("extra", datatype, dims))
    stream_config = replace(STREAM_CONFIG, inputs=inputs)

    class Extra(Streamable):
        extra: Any

    config = replace(CONFIG, inputs=(*CONFIG.inputs, tensor("extra", datatype, dims)))
    problems = mismatches(Extra, Output, config, stream_config)
    assert next(each for each in problems if "stream" in each).startswith(f"the stream model's input `extra` {reason}")
    assert [
        each for each in mismatches(Extra, Output, config, stream_config, lambda _: CARRIES_ALL) if "stream" in each
    ] == []


def test_an_optional_input_that_a_stream_cannot_hold_does_not_matter_without_a_field() -> None:
    extra = tensor("extra", "TYPE_FP16", (1,), optional=True)
    assert mismatches(Streamable, Output, CONFIG, replace(STREAM_CONFIG, inputs=(*STREAM_CONFIG.inputs, extra))) == []


ODD = ModelConfig(
    name="odd",
    max_batch_size=0,
    inputs=(
        tensor("input.1", "TYPE_FP32", (3,)),
        tensor("INPUT-0", "TYPE_UINT8", optional=True),
        tensor("grid", "TYPE_INT64", (2, -1), optional=True),
    ),
    outputs=(tensor("out.1", "TYPE_FP32", (1, 1)), tensor("class", "TYPE_STRING", (3,))),
)


def problems_of(declared: type[BaseModel], response: type[BaseModel] | None = None) -> list[str]:
    class NoOutput(BaseModel):
        pass

    return mismatches(declared, response or NoOutput, ODD)


def test_a_field_may_name_its_tensor() -> None:
    class Named(BaseModel):
        x: Annotated[list[float], TensorName("input.1")]
        level: Annotated[int | None, TensorName("INPUT-0")] = None
        other: Annotated[list[list[int]], TensorName("grid")] | None = None

    class NamedOutput(BaseModel):
        score: Annotated[float, TensorName("out.1")]
        labels: Annotated[list[str], TensorName("class")]

    assert problems_of(Named, NamedOutput) == []


def test_a_problem_names_the_field_and_its_tensor() -> None:
    class Named(BaseModel):
        x: Annotated[list[str], TensorName("input.1")]
        y: Annotated[int, TensorName("INPUT_0")] = 0

    assert problems_of(Named) == [
        "`Named.y` (tensor `INPUT_0`): the model odd has no input of that name; for `INPUT-0` write "
        '`y: Annotated[…, TensorName("INPUT-0")]`',
        "`Named.x` (tensor `input.1`) is declared as str, but the tensor is TYPE_FP32",
    ]


def test_two_fields_for_one_tensor_are_a_problem() -> None:
    class Twice(BaseModel):
        x: Annotated[list[float], TensorName("input.1")]
        y: Annotated[list[float], TensorName("input.1")]

    assert problems_of(Twice) == ["Twice has 2 fields for the tensor `input.1`"]


def test_a_tensor_name_that_is_not_an_identifier_is_suggested_as_annotation() -> None:
    class Plain(BaseModel):
        input_1: list[float]

    problems = problems_of(Plain)
    assert problems[0].endswith('; for `input.1` write `input_1: Annotated[…, TensorName("input.1")]`')
    assert problems[1] == "the model's input `input.1` is required, but Plain has no such field"


class ArrayLike:
    """A type that pydantic does not know."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.is_instance_schema(cls)


Nested = TypeAliasType("Nested", "list[Nested] | list[float]")  # type: ignore[misc]


class Recursive(BaseModel):
    inner: "Recursive | None" = None


Three = Annotated[list[float], Field(min_length=3, max_length=3)]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (list[float], None),
        (Three, None),
        (Annotated[list[float], Field(max_length=4)], None),
        (tuple[float, float, float], None),
        (tuple[float, ...], None),
        (list[Literal[0, 1]], None),
        (Any, None),
        (list[Decimal], None),
        (Sequence[float], None),
        (ArrayLike, None),
        (Nested, None),
        (list[Recursive], "is declared as an object, but the tensor is TYPE_FP32"),
        (list[bytes], "is declared as bytes, but the tensor is TYPE_FP32"),
        (tuple[float, float], "holds 2 items, but the tensor has dims [3]"),
        (Annotated[list[float], Field(max_length=2)], "holds 2 items at most, but the tensor has dims [3]"),
        (Annotated[list[float], Field(min_length=4)], "holds 4 items or more, but the tensor has dims [3]"),
        (float, "is a single value, but the tensor has dims [3]"),
        (list[list[float]], "is a list of lists, but the tensor has dims [3]: a list"),
        (list[str], "is declared as str, but the tensor is TYPE_FP32"),
        (dict[str, float], "is declared as an object, but the tensor is TYPE_FP32"),
        (Fitting, "is declared as an object, but the tensor is TYPE_FP32"),
    ],
)
def test_lists_are_compared_with_dims(annotation: Any, words: str | None) -> None:
    model = create_model("R", x=(Annotated[annotation, TensorName("input.1")], ...))
    problems = problems_of(model)
    assert [each.split(" (tensor `input.1`) ")[1] for each in problems][:1] == ([words] if words else [])


class Level(enum.IntEnum):
    LOW = 0
    TOO_HIGH = 256


@pytest.mark.parametrize(
    ("annotation", "default", "words"),
    [
        (Annotated[int, Field(ge=-5, le=1000)], 7, None),  # a wider range is allowed
        (Annotated[int, Field(ge=256)], 256, "accepts no value that fits TYPE_UINT8 (0 to 255)"),
        (Annotated[int, Field(le=-1)], -1, "accepts no value"),
        (int, -1, "its default -1 does not fit TYPE_UINT8 (0 to 255)"),
        (Literal[1, 300], 1, "its option 300 does not fit TYPE_UINT8"),
        (Level, Level.LOW, "its option 256 does not fit TYPE_UINT8"),
    ],
)
def test_only_ranges_outside_the_datatype_are_problems(annotation: Any, default: Any, words: str | None) -> None:
    model = create_model(
        "R", x=(Annotated[Three, TensorName("input.1")], ...), y=(Annotated[annotation, TensorName("INPUT-0")], default)
    )
    problems = problems_of(model)
    assert (words in problems[0]) if words else problems == []


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (float, None),
        (list[float], None),
        (list[list[float]], None),
        (int, "is declared as int, but the tensor is TYPE_FP32"),
        (list[list[list[float]]], "is a list of lists of lists, but the tensor has dims [1, 1]: a list of lists"),
    ],
)
def test_an_output_of_one_value_may_be_declared_with_and_without_lists(annotation: Any, words: str | None) -> None:
    response = create_model("A", score=(Annotated[annotation, TensorName("out.1")], ...))
    request = create_model("R", x=(Annotated[Three, TensorName("input.1")], ...))
    problems = problems_of(request, response)
    assert (words in problems[0]) if words else problems == []


def test_texts_are_compared_with_dims_unless_they_hold_json() -> None:
    request = create_model("R", x=(Annotated[Three, TensorName("input.1")], ...))
    plain = create_model("A", labels=(Annotated[str, TensorName("class")], ...))
    (problem,) = problems_of(request, plain)
    assert problem == "`A.labels` (tensor `class`) is a single value, but the tensor has dims [3]"
    assert problems_of(request, create_model("A", labels=(Annotated[Json[Any], TensorName("class")], ...))) == []
