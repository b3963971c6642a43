# SPDX-License-Identifier: Apache-2.0
"""The query option `classes` in front of a fake Triton: outputs, limits, forms of scores and labels, refusals."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import InferenceError
from fastapi_triton.endpoints.generated import classification
from fastapi_triton.endpoints.generated.infer_path import InferOptions, InferPath
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Extensions, Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.infer_codec import request_body
from fastapi_triton.triton.tensor import Tensor
from support.echo_models import echo, model, tensor
from support.problems import problem_of

PROBS = tensor("probs", dims=(4,))
GRID = tensor("grid", "INT8", (2, 2), optional=True)
NAME = tensor("name", "BYTES", optional=True)


async def stream(inputs: Tensors) -> AsyncGenerator[Tensors, None]:
    yield inputs


@pytest.fixture
def triton() -> FakeTriton:
    fake = FakeTriton()
    fake.add(model("plain", PROBS, GRID, NAME), echo)
    fake.add(model("batched", PROBS, GRID, batch=4), echo)
    fake.add(model("labelled", PROBS, replace(GRID, has_labels=True), batch=4), echo)
    fake.add(model("texts", NAME, tensor("free", dims=(-1,)), tensor("half", "FP16", (3,)), tensor("one")), echo)
    fake.add(model("stream", PROBS, decoupled=True), respond_stream=stream)
    return fake


@pytest.fixture
async def http(triton: FakeTriton) -> AsyncIterator[httpx2.AsyncClient]:
    app = TritonFrontend(triton=triton, settings=Settings(generate=True, watch_interval_s=3600))
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await app.registry.poll()
        yield client


def found(score: float, index: int, label: str | None = None) -> dict[str, Any]:
    return {"score": score, "index": index, "label": label}


async def test_numeric_outputs_become_their_highest_values(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    body = {"probs": [0.25, 0.5, 0.125, 0.0], "grid": [[1, 2], [4, 3]], "name": "n"}
    response = await http.post("/models/plain/infer?classes=2", json=body)
    assert response.json() == {
        "probs": [found(0.5, 1), found(0.25, 0)],
        "grid": [found(4, 2), found(3, 3)],
        "name": "n",
    }
    assert triton.extensions[0].classes == {"probs": 2, "grid": 2}


async def test_each_row_of_a_batch_has_its_classes(http: httpx2.AsyncClient) -> None:
    rows = [{"probs": [0, 1, 0, 0]}, {"probs": [0, 0, 0, 2]}]
    response = await http.post("/models/batched/infer?classes=1", json=rows)
    assert response.json() == [{"probs": [found(1.0, 1)]}, {"probs": [found(2.0, 3)]}]
    assert (await http.post("/models/batched/infer?classes=1", json=rows[0])).json() == {"probs": [found(1.0, 1)]}


async def test_only_outputs_with_labels_are_classified_if_there_are_any(http: httpx2.AsyncClient) -> None:
    body = {"probs": [0, 1, 0, 0], "grid": [[1, 2], [4, 3]]}
    response = await http.post("/models/labelled/infer?classes=1", json=body)
    assert response.json() == {"probs": [0.0, 1.0, 0.0, 0.0], "grid": [found(4, 2)]}


def test_labels_may_hold_anything_and_scores_need_not_be_finite() -> None:
    texts = np.array([[b"inf:3:a:b", b"0.5:1", b"-inf:0:", b"nan:2:\xff"]], dtype=np.object_)
    assert classification.decode(texts, BY_WIRE["FP32"]) == [
        {"score": "Infinity", "index": 3, "label": "a:b"},
        {"score": 0.5, "index": 1, "label": None},
        {"score": "-Infinity", "index": 0, "label": ""},
        {"score": "NaN", "index": 2, "label": "�"},
    ]
    assert classification.decode(np.array([b"18446744073709551615:0"], object), BY_WIRE["UINT64"]) == [
        found(2**64 - 1, 0)
    ]
    with pytest.raises(InferenceError):
        classification.decode(np.array([b"x"], dtype=np.object_), BY_WIRE["FP32"])


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("plain/infer?classes=5", "out_of_range", "from 1 to 4"),
        ("texts/infer?classes=1", "unsupported_parameter", "`half` is FP16 [3]"),
        ("stream/infer?classes=1", "unsupported_parameter", "decoupled"),
    ],
)
async def test_the_error_says_why_there_are_no_classes(
    http: httpx2.AsyncClient, triton: FakeTriton, path: str, code: str, words: str
) -> None:
    problem = problem_of(await http.post(f"/models/{path}", json={}), 422)
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [("#/classes", code)]
    assert words in problem["detail"]
    assert not triton.requests


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", ""])
async def test_the_number_is_checked(http: httpx2.AsyncClient, number: str) -> None:
    problem = problem_of(await http.post(f"/models/plain/infer?classes={number}", json={"probs": [1] * 4}), 422)
    assert "classes" in str(problem["errors"])


async def test_an_output_that_is_no_classes_is_a_502(http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def infer(*_: Any, **__: Any) -> dict[str, Tensor]:
        return {"probs": Tensor(BY_WIRE["FP32"], np.zeros(4, np.float32))}

    monkeypatch.setattr(FakeTriton, "infer", infer)
    problem_of(await http.post("/models/plain/infer?classes=1", json={"probs": [1] * 4}), 502)


def test_classes_are_requested_beside_other_outputs() -> None:
    (header,), _ = request_body({}, ["probs", "name"], "", extensions=Extensions(classes={"probs": 3}))
    assert json.loads(bytes(header))["outputs"] == [
        {"name": "probs", "parameters": {"binary_data": True, "classification": 3}},
        {"name": "name", "parameters": {"binary_data": True}},
    ]


async def test_the_option_is_described_where_it_works(http: httpx2.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    options = {
        path: [each["schema"] for each in item["post"]["parameters"] if each["name"] == "classes"]
        for path, item in document["paths"].items()
        if path.count("/") == 3 and path.endswith("/infer")
    }
    assert options == {
        "/models/plain/infer": [{"type": "integer", "minimum": 1, "maximum": 4}],
        "/models/batched/infer": [{"type": "integer", "minimum": 1, "maximum": 4}],
        "/models/labelled/infer": [{"type": "integer", "minimum": 1, "maximum": 4}],
        "/models/texts/infer": [],
        "/models/stream/infer": [],
    }
    outputs = (await http.get("/models/labelled")).json()["outputs"]
    assert [each.get("max_classes") for each in outputs] == [None, 4]


def test_the_option_is_part_of_the_path_of_a_job() -> None:
    address = InferPath("m", "2", InferOptions(arrays="npy", classes=3))
    assert address.path == "/models/m/versions/2/infer?arrays=npy&classes=3"
    assert InferPath.of(address.path) == address
    for number in ("0", "x", "03", "-1", "9" * 5000):
        assert InferPath.of(f"/models/m/infer?classes={number}") is None
