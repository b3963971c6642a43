# SPDX-License-Identifier: Apache-2.0
"""Fields whose tensors have other names: Triton gets the tensors' names, and clients see only the fields'."""

from typing import Annotated, Any

import httpx2
import numpy as np
import pytest
from pydantic import BaseModel, Field

from fastapi_triton import Base64Image, TensorName, TritonFrontend
from fastapi_triton.core.errors import FieldProblem, InvalidRequestError
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_CONFIG, BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor

CONFIG = ModelConfig(
    name="odd",
    max_batch_size=0,
    inputs=(
        TensorConfig("input.1", BY_CONFIG["TYPE_FP32"], (-1,)),
        TensorConfig("INPUT-0", BY_CONFIG["TYPE_UINT8"], (1,), optional=True),
    ),
    outputs=(
        TensorConfig("output.1", BY_CONFIG["TYPE_FP32"], (-1,)),
        TensorConfig("class", BY_CONFIG["TYPE_INT32"], (1, 1)),
    ),
)


class Request(BaseModel):
    x: Annotated[list[float], TensorName("input.1")]
    level: Annotated[int | None, TensorName("INPUT-0"), Field(alias="theLevel")] = None


class Response(BaseModel):
    y: Annotated[list[float], TensorName("output.1")]
    kind: Annotated[list[list[int]], TensorName("class"), Field(alias="class")]


async def respond(inputs: Tensors) -> dict[str, Tensor]:
    if "INPUT-0" in inputs and inputs["INPUT-0"].array[0] == 13:
        problem = FieldProblem("#/INPUT-0", "unlucky", "`INPUT-0` is 13.")
        raise InvalidRequestError("`INPUT-0` is 13.", code="unlucky", problems=[problem])
    return {
        "output.1": inputs["input.1"],
        "class": Tensor(BY_WIRE["INT32"], np.array([[4]], np.int32)),
    }


@pytest.fixture
def triton() -> FakeTriton:
    fake = FakeTriton()
    fake.add(CONFIG, respond)
    return fake


@pytest.fixture
def app(triton: FakeTriton) -> TritonFrontend:
    frontend = TritonFrontend(triton=triton)
    frontend.infer("/odd", model="odd", request=Request, response=Response)
    return frontend


@pytest.mark.parametrize("x", [[1.0, 2.0], [1.0]])
async def test_clients_see_fields_and_triton_sees_tensors(
    client: httpx2.AsyncClient, triton: FakeTriton, x: list[float]
) -> None:
    """A list with one item stays a list, as declared."""
    response = await client.post("/odd", json={"x": x, "theLevel": 7})
    assert response.json() == {"y": x, "class": [[4]]}
    inputs = triton.requests[0][1]
    assert inputs["input.1"].array.tolist() == x
    assert inputs["INPUT-0"].array.tolist() == [7]


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        (
            {"x": [1], "theLevel": 300},
            "#/theLevel",
            "`theLevel` is 300; it must be a whole number from 0 to 255, for UINT8.",
        ),
        ({"x": [1], "theLevel": 13}, "#/theLevel", "`theLevel` is 13."),
        ({"theLevel": 1}, "#/x", "`x` is required, but missing."),
        ({"x": [1], "theLvel": 1}, "#/theLvel", "There is no field `theLvel`; did you mean `theLevel`?"),
    ],
)
async def test_problems_point_to_the_fields_that_the_client_sent(
    client: httpx2.AsyncClient, body: dict[str, Any], pointer: str, detail: str
) -> None:
    response = await client.post("/odd", json=body)
    assert response.status_code == 422
    (problem,) = response.json()["errors"]
    assert problem["pointer"] == pointer
    assert problem["detail"] == detail
    assert "input" not in response.text.lower()


async def test_the_openapi_document_has_the_fields_names(client: httpx2.AsyncClient) -> None:
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert set(schemas["Request"]["properties"]) == {"x", "theLevel"}
    assert set(schemas["Response"]["properties"]) == {"y", "class"}


def test_a_picture_in_a_form_has_its_alias() -> None:
    class Picture(BaseModel):
        image: Annotated[Base64Image, TensorName("input.1"), Field(alias="theImage")]

    app = TritonFrontend(triton=FakeTriton())
    app.infer("/p", model="odd", request=Picture, response=Response)
    form = app.openapi()["paths"]["/p"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"theImage"}
    assert form["properties"]["theImage"]["format"] == "binary"
