# SPDX-License-Identifier: Apache-2.0
"""Generated endpoints of sequence models in front of a fake Triton: fields, limits, errors, refusals."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.endpoints.generated.codec import GeneratedModel
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Extensions, Tensors
from fastapi_triton.triton.infer_codec import request_body
from fastapi_triton.triton.model_config import ModelConfig, from_server
from fastapi_triton.triton.tensor import Tensor
from support.echo_models import echo
from support.problems import problem_of


def config(name: str, ids: str = "", **more: Any) -> ModelConfig:
    """A sequence model with one input `x`. `ids` is the datatype of the control input for ids."""
    control = {"name": "ID", "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": ids}]}
    start = {"name": "START", "control": [{"kind": "CONTROL_SEQUENCE_START", "data_type": "TYPE_INVALID"}]}
    tensors = [{"name": "x", "data_type": "TYPE_INT32", "dims": ["1"]}]
    entry = {
        "name": name,
        "max_batch_size": 4,
        "input": tensors,
        "output": tensors,
        "sequence_batching": {"control_input": [start, control] if ids else [start]},
    }
    return from_server({**entry, **more})


@pytest.fixture
def triton() -> FakeTriton:
    fake = FakeTriton()
    for name, ids in (("any", ""), ("small", "TYPE_INT32"), ("large", "TYPE_UINT64"), ("text", "TYPE_STRING")):
        fake.add(config(name, ids), echo)
    fake.add(config("plain", max_batch_size=0), echo)
    return fake


@pytest.fixture
async def http(triton: FakeTriton, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    app = TritonFrontend(triton=triton, settings=Settings(generate=True, jobs_folder=str(tmp_path)))
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await app.registry.poll()
        yield client


def pointers(response: httpx2.Response) -> list[tuple[str, str]]:
    return [(each["pointer"], each["code"]) for each in problem_of(response, 422)["errors"]]


@pytest.mark.parametrize(("model", "shape"), [("any", (1, 1)), ("plain", (1,))])
async def test_the_fields_become_parameters_of_the_request(
    http: httpx2.AsyncClient, triton: FakeTriton, model: str, shape: tuple[int, ...]
) -> None:
    first = await http.post(f"/models/{model}/infer", json={"x": 1, "sequence_id": "a", "sequence_start": True})
    assert (first.status_code, first.json()) == (200, {"x": 1})
    last = await http.post(f"/models/{model}/infer", json={"x": 2, "sequence_id": 7, "sequence_end": True})
    assert last.json() == {"x": 2}
    assert [each.parameters for each in triton.extensions] == [
        {"sequence_id": "a", "sequence_start": True, "sequence_end": False},
        {"sequence_id": 7, "sequence_start": False, "sequence_end": True},
    ]
    assert [tuple(inputs["x"].shape) for _, inputs, _ in triton.requests] == [shape, shape]


def test_parameters_are_written_into_the_request_to_triton() -> None:
    parameters = {"sequence_id": 2**64 - 1, "sequence_start": True, "sequence_end": False}
    for outputs, binary in (([], {"binary_data_output": True}), (["y"], {})):
        (header,), _ = request_body({}, outputs, "", extensions=Extensions(parameters))
        assert json.loads(bytes(header))["parameters"] == parameters | binary


@pytest.mark.parametrize(
    ("model", "sequence_id", "code"),
    [
        *(("any", value, "") for value in (1, 2**64 - 1, "1", "ä" * 64)),
        *(("any", value, "out_of_range") for value in (0, -1, 2**64)),
        *(("any", value, "wrong_type") for value in (True, 1.0, None, [1])),
        *(("any", value, code) for value, code in (("", "too_short"), ("ä" * 65, "too_long"))),
        *(("small", value, code) for value, code in ((2**31 - 1, ""), (2**31, "out_of_range"), ("1", "wrong_type"))),
        *(("large", value, code) for value, code in ((2**64 - 1, ""), (2**64, "out_of_range"), ("1", "wrong_type"))),
        *(("text", value, code) for value, code in (("1", ""), (1, "wrong_type"))),
        *(("text", value, code) for value, code in (("x" * 124, ""), ("x" * 125, "too_long"))),
    ],
)
async def test_ids_have_the_datatype_of_the_models_control_input(
    http: httpx2.AsyncClient, model: str, sequence_id: Any, code: str
) -> None:
    response = await http.post(f"/models/{model}/infer", json={"x": 1, "sequence_id": sequence_id})
    if code:
        assert pointers(response) == [("#/sequence_id", code)]
    else:
        assert response.status_code == 200


async def test_every_wrong_field_is_named(http: httpx2.AsyncClient) -> None:
    body = {"x": "1", "sequence_start": 1, "sequence_end": "true", "sequence_ids": 1}
    assert pointers(await http.post("/models/any/infer", json=body)) == [
        ("#/x", "wrong_type"),
        ("#/sequence_id", "missing_field"),
        ("#/sequence_start", "wrong_type"),
        ("#/sequence_end", "wrong_type"),
        ("#/sequence_ids", "unknown_field"),
    ]


async def test_a_sequence_model_takes_one_row(http: httpx2.AsyncClient) -> None:
    problem = problem_of(await http.post("/models/any/infer", json=[{"x": 1, "sequence_id": 1}]), 422)
    assert "one row of a sequence" in problem["detail"]


async def test_a_text_id_that_the_model_cannot_read_is_explained(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    def fail(_: Tensors) -> dict[str, Tensor]:
        raise InvalidRequestError(
            "Triton rejected the request: unexpected number of string elements 2 for inference input 'ID', expecting 1",
            code="refused_by_triton",
        )

    triton.models["text"].respond = fail
    response = await http.post("/models/text/infer", json={"x": 1, "sequence_id": "a", "sequence_start": True})
    assert pointers(response) == [("#/sequence_id", "refused_by_triton")]
    assert "use TYPE_UINT64" in response.json()["detail"]


async def test_the_error_of_an_unknown_sequence_names_the_field_and_the_idle_time(
    http: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    async def refuse(_: Tensors) -> dict[str, Tensor]:
        raise InvalidRequestError(
            "Triton rejected the request: inference request for sequence 7 to model 'any' must specify the START flag "
            "on the first request of the sequence"
        )

    triton.models["any"].respond = refuse
    response = await http.post("/models/any/infer", json={"x": 1, "sequence_id": 7})
    assert pointers(response) == [("#/sequence_start", "unknown_sequence")]
    assert "must specify the START flag" in response.json()["detail"]
    assert "1 s without a request" in response.json()["detail"]


@pytest.mark.parametrize("header", [{"Prefer": "respond-async"}, {"Idempotency-Key": "a"}])
async def test_requests_of_a_sequence_cannot_become_jobs(http: httpx2.AsyncClient, header: dict[str, str]) -> None:
    response = await http.post("/models/any/infer", json={"x": 1, "sequence_id": 7}, headers=header)
    assert problem_of(response, 422)["code"] == "no_jobs_for_sequences"


async def test_the_fields_are_described(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/models/small")).json()["sequences"] == {"id_datatype": "INT32", "max_idle_s": 1.0}
    document = (await http.get("/openapi.json")).json()
    schema = document["components"]["schemas"]["models.small.Request"]
    assert schema["required"] == ["x", "sequence_id"]
    assert schema["properties"]["sequence_id"].items() >= {"minimum": 1, "maximum": 2**31 - 1}.items()
    assert "respond-async" not in json.dumps(document["paths"]["/models/small/infer"])
    for name in ("any", "small", "text"):
        operation = document["paths"][f"/models/{name}/infer"]["post"]
        assert "after the response" in operation["description"]
        (body,) = operation["requestBody"]["content"]["application/json"]["examples"].values()
        assert (await http.post(f"/models/{name}/infer", json=body["value"])).status_code == 200


@pytest.mark.parametrize(
    ("more", "keeps_sequences", "words"),
    [
        ({}, False, "one Triton outside of the cluster"),
        ({"model_transaction_policy": {"decoupled": True}}, True, "gRPC"),
        ({"input": [{"name": "sequence_id", "data_type": "TYPE_INT32", "dims": [1]}]}, True, "use /v2"),
    ],
)
def test_models_whose_state_or_sequence_id_would_be_lost_have_no_endpoint(
    more: dict[str, Any], keeps_sequences: bool, words: str
) -> None:
    (reason,) = GeneratedModel(config("m", **more), keeps_sequences=keeps_sequences).obstacles
    assert words in reason


@pytest.mark.parametrize(("ids", "sequence_id"), [("TYPE_UINT64", 7), ("TYPE_STRING", "7")])
async def test_a_form_has_the_fields_too(
    http: httpx2.AsyncClient, triton: FakeTriton, ids: str, sequence_id: int | str
) -> None:
    frames = [{"name": "frame", "data_type": "TYPE_UINT8", "dims": [3, 1, 2]}]
    triton.add(config("frames", ids, input=frames, output=frames), echo)
    app: Any = http._transport.app  # type: ignore[attr-defined]
    await app.registry.poll()
    form: dict[str, Any] = {"frame": (None, "[[[1,2]],[[3,4]],[[5,6]]]"), "sequence_id": (None, "7")}
    response = await http.post("/models/frames/infer", files={**form, "sequence_start": (None, "true")})
    assert response.status_code == 200, response.text
    assert [each.parameters for each in triton.extensions] == [
        {"sequence_id": sequence_id, "sequence_start": True, "sequence_end": False}
    ]
    assert pointers(await http.post("/models/frames/infer", files={**form, "sequence_end": (None, "yes")})) == [
        ("#/sequence_end", "wrong_type")
    ]
    document = (await http.get("/openapi.json")).json()
    body = document["paths"]["/models/frames/infer"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert {*body["schema"]["properties"]} == {"frame", "sequence_id", "sequence_start", "sequence_end"}


async def test_an_ensemble_has_the_sequences_of_its_step(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    app: Any = http._transport.app  # type: ignore[attr-defined]
    tensors = [{"name": "x", "data_type": "TYPE_INT32", "dims": [1]}]
    for name, step in (("outer", "inner"), ("inner", "small")):
        steps = {"step": [{"model_name": "unknown"}, {"model_name": step}]}
        triton.add(from_server({"name": name, "input": tensors, "output": tensors, "ensemble_scheduling": steps}), echo)
    await app.registry.poll()
    assert pointers(await http.post("/models/outer/infer", json={"x": 1})) == [("#/sequence_id", "missing_field")]
    assert (await http.post("/models/outer/infer", json={"x": 1, "sequence_id": 2})).status_code == 200
    assert (await http.get("/models/outer")).json()["sequences"]["id_datatype"] == "INT32"
    triton.add(config("small", sequence_batching=None), echo)
    app.registry.doubt("small")
    await app.registry.poll()
    assert (await http.post("/models/outer/infer", json={"x": 1})).status_code == 200
