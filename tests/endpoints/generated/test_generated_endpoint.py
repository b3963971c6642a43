# SPDX-License-Identifier: Apache-2.0
"""Generated endpoints in front of a fake Triton: bodies, batches, responses, streams, errors, descriptions."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.endpoints.generated import openapi
from fastapi_triton.endpoints.generated.codec import GeneratedModel
from fastapi_triton.testing import FakeTriton
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import from_server
from fastapi_triton.triton.tensor import Tensor
from support.echo_models import echo, model, tensor
from support.problems import problem_of

SETTINGS = Settings(generate=True, watch_interval_s=3600, max_in_flight=2, max_waiting=0)


async def thrice(inputs: Tensors) -> AsyncGenerator[dict[str, Tensor], None]:
    for _ in range(3):
        yield dict(inputs)


@pytest.fixture
def triton() -> FakeTriton:
    fake = FakeTriton()
    fake.add(model("plain", tensor("x"), tensor("v", dims=(-1,), optional=True)), echo)
    fake.add(model("batched", tensor("x", "INT32", (2,)), tensor("s", "BYTES", optional=True), batch=4), echo)
    fake.add(model("odd name.v2", tensor("input.1"), tensor("a/b~c", "INT8"), tensor("class", "BYTES")), echo)
    fake.add(model("stream", tensor("x"), decoupled=True, batch=4), respond_stream=thrice)
    fake.add(model("stream16", tensor("x", "FP16"), tensor("id", "INT32"), decoupled=True), respond_stream=thrice)
    optional16 = model("optional16", tensor("x"), tensor("half", "FP16", optional=True), decoupled=True)
    fake.add(replace(optional16, outputs=optional16.outputs[:1]), respond_stream=thrice)
    return fake


@pytest.fixture
async def app(triton: FakeTriton) -> AsyncIterator[TritonFrontend]:
    frontend = TritonFrontend(triton=triton, settings=SETTINGS)
    async with frontend.router.lifespan_context(frontend):
        await frontend.registry.poll()
        yield frontend


@pytest.fixture
async def http(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def pointers(problem: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["pointer"], each["code"]) for each in problem["errors"]]


async def test_a_request_of_one_object_gets_one_object(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    response = await http.post("/models/plain/infer", json={"x": 0.1, "v": [1, 2]}, headers={"X-Request-ID": "abc"})
    assert response.status_code == 200
    assert response.json() == {"x": 0.1, "v": [1.0, 2.0]}
    assert "triton;dur=" in response.headers["server-timing"]
    ((name, inputs, request_id),) = triton.requests
    assert (name, request_id) == ("plain", "abc")
    assert inputs["x"].array.shape == (1,)


async def test_a_small_request_starts_no_thread(http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise AssertionError(f"{thread} was started")

    monkeypatch.setattr(threading.Thread, "start", start)  # a thread takes as long as all the rest of the request
    for path in ("/models/plain/infer", "/models/plain/versions/1/infer"):
        assert (await http.post(path, json={"x": 1})).status_code == 200
        assert (await http.post(f"{path}?arrays=npy", json={"x": 1})).status_code == 200


async def test_a_list_of_objects_is_a_batch_and_gets_a_list(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    rows = [{"x": [1, 2], "s": "a"}, {"x": [3, 4], "s": "b"}, {"x": [5, 6], "s": "c"}]
    assert (await http.post("/models/batched/infer", json=rows)).json() == rows
    assert (await http.post("/models/batched/infer", json=rows[:1])).json() == rows[:1]
    assert (await http.post("/models/batched/infer", json=rows[0])).json() == rows[0]
    shapes = [inputs["x"].array.shape for _, inputs, _ in triton.requests]
    assert shapes == [(3, 2), (1, 2), (1, 2)]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([], [("#", "wrong_shape")]),
        ([{"x": [1, 2]}] * 5, [("#", "wrong_shape")]),
        ([{"x": [1, 2]}, 3, {"x": [1]}], [("#/1", "wrong_type"), ("#/2/x", "wrong_shape")]),
        ([{"s": "a"}, {"x": [1, 2]}], [("#/0/x", "missing_field")]),
        ([{"x": [1, 2], "s": "a"}, {"x": [1, 2]}], [("#/1", "missing_field")]),
        ([{"x": [1, 2]}, {"X": [1, 2]}], [("#/1/x", "missing_field"), ("#/1/X", "unknown_field")]),
    ],
)
async def test_problems_of_a_batch_point_to_the_row(
    http: httpx2.AsyncClient, rows: list[Any], found: list[tuple[str, str]]
) -> None:
    assert pointers(problem_of(await http.post("/models/batched/infer", json=rows), 422)) == found


async def test_rows_of_a_batch_must_have_the_same_shape(triton: FakeTriton, http: httpx2.AsyncClient) -> None:
    triton.add(model("free", tensor("v", dims=(-1,)), batch=4), echo)
    await app_of(http).registry.poll()
    problem = problem_of(await http.post("/models/free/infer", json=[{"v": [1]}, {"v": [1, 2]}]), 422)
    assert pointers(problem) == [("#/1/v", "wrong_shape")]


def app_of(http: httpx2.AsyncClient) -> Any:
    return http._transport.app  # type: ignore[attr-defined]


async def test_a_batch_for_a_model_without_batches_is_rejected_with_the_reason(http: httpx2.AsyncClient) -> None:
    assert "max_batch_size is 0" in problem_of(await http.post("/models/plain/infer", json=[{"x": 1}]), 422)["detail"]


async def test_unusual_names_work_unchanged(http: httpx2.AsyncClient) -> None:
    body = {"input.1": 0.5, "a/b~c": 3, "class": "cat"}
    assert (await http.post("/models/odd%20name.v2/infer", json=body)).json() == body
    wrong = {"input.1": "x", "a/b~c": 300, "clas": 1}
    problem = problem_of(await http.post("/models/odd%20name.v2/infer", json=wrong), 422)
    assert pointers(problem) == [
        ("#/input.1", "wrong_type"),
        ("#/a~1b~0c", "out_of_range"),
        ("#/class", "missing_field"),
        ("#/clas", "unknown_field"),
    ]
    assert "did you mean `class`?" in problem["detail"]


async def test_internal_names_are_unknown_members(http: httpx2.AsyncClient) -> None:
    assert pointers(problem_of(await http.post("/models/plain/infer", json={"x": 1, "tensor_1": 1}), 422)) == [
        ("#/tensor_1", "unknown_field")
    ]


@pytest.mark.parametrize("arrays", ["npy", "base64"])
async def test_arrays_come_in_the_requested_form_and_are_accepted_in_it(http: httpx2.AsyncClient, arrays: str) -> None:
    path = f"/models/plain/infer?arrays={arrays}"
    response = (await http.post(path, json={"x": 1, "v": [1, 2.5]})).json()
    assert response["x"] == 1.0
    assert arrays in response["v"]
    assert (await http.post("/models/plain/infer", json={"x": 1, "v": response["v"]})).json()["v"] == [1.0, 2.5]


async def test_large_arrays_are_read_and_written_like_small_ones(http: httpx2.AsyncClient) -> None:
    numbers = list(range(100_000))
    assert (await http.post("/models/plain/infer", json={"x": 1, "v": numbers})).json()["v"] == numbers
    problem = problem_of(await http.post("/models/plain/infer", json={"x": 1, "v": [*numbers, None]}), 422)
    assert pointers(problem) == [("#/v/100000", "wrong_type")]


async def test_an_unknown_form_of_arrays_is_rejected(http: httpx2.AsyncClient) -> None:
    (error,) = problem_of(await http.post("/models/plain/infer?arrays=xml", json={"x": 1}), 422)["errors"]
    assert (error["pointer"], error["code"]) == ("#/arrays", "invalid_value")
    assert "`arrays` in the query" in error["detail"]


async def test_nan_is_sent_as_text_and_never_becomes_null(http: httpx2.AsyncClient) -> None:
    body = {"x": "NaN", "v": ["Infinity", "-Infinity", 1.0]}
    assert (await http.post("/models/plain/infer", json=body)).json() == body
    bare = await http.post("/models/plain/infer", content=b'{"x": NaN}', headers={"Content-Type": "application/json"})
    assert pointers(problem_of(bare, 422)) == [("#/x", "not_finite")]


@pytest.mark.parametrize(
    "content", [b"", b"x", b'{"x": 1', b"[" * 100_000, b'{"x": "\\ud800"}', b'{"x":1' + b"0" * 5000]
)
async def test_a_body_that_is_not_json_is_a_400(http: httpx2.AsyncClient, content: bytes) -> None:
    response = await http.post("/models/plain/infer", content=content, headers={"Content-Type": "application/json"})
    assert problem_of(response, 400)["code"] == "invalid_json"


@pytest.mark.parametrize("body", [1, None, "x", True])
async def test_a_body_that_is_not_an_object_is_rejected(http: httpx2.AsyncClient, body: Any) -> None:
    response = await http.post("/models/plain/infer", content=json.dumps(body))
    assert pointers(problem_of(response, 422)) == [("#", "wrong_type")]


async def test_only_the_first_of_a_thousand_unknown_members_are_listed(http: httpx2.AsyncClient) -> None:
    problem = problem_of(await http.post("/models/plain/infer", json={"x": 1} | {f"y{n}": 1 for n in range(1000)}), 422)
    assert len(problem["errors"]) == 50


async def test_other_media_types_are_rejected(http: httpx2.AsyncClient) -> None:
    problem_of(await http.post("/models/plain/infer", data={"x": "1"}), 415)
    problem_of(await http.post("/models/plain/infer", json={"x": 1}, headers={"Accept": "image/png"}), 406)
    problem_of(await http.post("/models/stream/infer", json={"x": 1}, headers={"Accept": "application/json"}), 406)


async def test_the_path_selects_the_version(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    triton.models["plain"].versions = ("1", "3")
    await app_of(http).registry.poll()
    assert (await http.post("/models/plain/versions/3/infer", json={"x": 1})).status_code == 200
    assert triton.versions_asked == ["3"]
    problem = problem_of(await http.post("/models/plain/versions/2/infer", json={"x": 1}), 404)
    assert "1, 3" in problem["detail"]


async def test_the_error_of_an_unknown_model_suggests_the_nearest(http: httpx2.AsyncClient) -> None:
    assert "did you mean `plain`?" in problem_of(await http.post("/models/plian/infer", json={}), 404)["detail"]
    assert problem_of(await http.get("/models/nothing-like-it"), 404)["code"] == "not_found"


async def test_admission_limits_generated_endpoints_too(http: httpx2.AsyncClient, app: TritonFrontend) -> None:
    for name in ("plain", "stream"):
        admission = app.services.admission.of(name)
        with await admission.slot(), await admission.slot():
            assert problem_of(await http.post(f"/models/{name}/infer", json={"x": 1}), 503)["code"] == "overloaded"
    assert app.services.admission.in_flight == 0


async def test_the_body_limit_holds_for_generated_endpoints_too(triton: FakeTriton) -> None:
    app = TritonFrontend(triton=triton, generate=True, settings=Settings(max_body_bytes=1000))
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        await app.registry.poll()
        problem = problem_of(await http.post("/models/plain/infer", json={"x": [1] * 1000}), 413)
        assert problem["code"] == "body_too_large"


async def test_a_decoupled_model_sends_events(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    response = await http.post("/models/stream/infer", json={"x": 0.5})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\n") for block in response.text.strip().split("\n\n")]
    assert events == [["event: response", 'data: {"x":0.5}']] * 3 + [["event: completed", 'data: {"num_responses":3}']]
    ((_, inputs, _),) = triton.requests
    assert inputs["x"].array.shape == (1,)  # Triton's generate_stream adds the batch dimension
    problem = problem_of(await http.post("/models/stream/infer", json=[{"x": 0.5}]), 422)
    assert "decoupled" in problem["detail"]


async def test_a_model_whose_tensors_a_stream_cannot_hold_has_no_endpoint_and_the_error_says_why(
    http: httpx2.AsyncClient,
) -> None:
    problem = problem_of(await http.post("/models/stream16/infer", json={"x": 0.5}), 404)
    assert problem["code"] == "no_endpoint"
    assert "its input `x` is FP16" in problem["detail"]
    assert "its output `x` is FP16" in problem["detail"]
    assert (await http.get("/models/stream16")).json()["endpoint"] is None
    assert "/models/stream16/infer" not in (await http.get("/openapi.json")).json()["paths"]


async def test_an_optional_input_that_a_stream_cannot_hold_is_left_out_with_its_reason(
    http: httpx2.AsyncClient,
) -> None:
    assert (await http.post("/models/optional16/infer", json={"x": 0.5})).status_code == 200
    problem = problem_of(await http.post("/models/optional16/infer", json={"x": 0.5, "half": 1}), 422)
    assert pointers(problem) == [("#/half", "unsupported_parameter")]
    assert problem["errors"][0]["detail"].startswith("`half` is FP16")
    inputs = (await http.get("/models/optional16")).json()["inputs"]
    assert [(each["name"], each.get("left_out", "")[:7]) for each in inputs] == [("x", ""), ("half", "is FP16")]
    schemas = (await http.get("/openapi.json")).json()["components"]["schemas"]
    assert set(schemas["models.optional16.Request"]["properties"]) == {"x"}


async def test_a_model_of_which_a_stream_can_hold_no_input_has_no_endpoint(
    http: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    config = replace(model("none16", tensor("x", "FP16", optional=True), decoupled=True), outputs=())
    triton.add(config, respond_stream=thrice)
    await app_of(http).registry.poll()
    assert "`x` is FP16" in problem_of(await http.post("/models/none16/infer", json={}), 404)["detail"]


async def test_an_iterative_sequence_needs_no_id(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    plain = {"name": "iterative", "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [1]}]}
    for batching in ({"iterative_sequence": True}, {"generative_sequence": True}):
        triton.add(from_server({**plain, "sequence_batching": batching}), echo)
        await app_of(http).registry.poll()
        assert (await http.post("/models/iterative/infer", json={"x": 1})).status_code == 200


async def test_outputs_that_do_not_fit_the_config_are_a_502(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    outputs: list[dict[str, Tensor]] = [
        {"x": Tensor(BY_WIRE["BYTES"], np.array([b"a"], object))},
        {"x": Tensor(BY_WIRE["FP32"], np.zeros((2, 2), np.float32))},
    ]

    async def reply(_: Tensors) -> dict[str, Tensor]:
        return outputs.pop()

    triton.models["plain"].respond = reply
    for _ in range(2):
        problem = problem_of(await http.post("/models/plain/infer", json={"x": 1}), 502)
        assert "`x`" in problem["detail"]


async def test_a_batch_of_the_wrong_length_is_a_502(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    async def reply(_: Tensors) -> dict[str, Tensor]:
        return {"x": Tensor(BY_WIRE["INT32"], np.zeros((3, 2), np.int32))}

    triton.models["batched"].respond = reply
    assert "2 rows" in problem_of(await http.post("/models/batched/infer", json=[{"x": [1, 2]}] * 2), 502)["detail"]


async def test_unknown_and_missing_outputs_are_ignored(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    async def reply(inputs: Tensors) -> dict[str, Tensor]:
        return {"extra": inputs["x"], "v": Tensor(BY_WIRE["FP32"], np.zeros(2, np.float32))}

    triton.models["plain"].respond = reply
    assert (await http.post("/models/plain/infer", json={"x": 1})).json() == {"v": [0.0, 0.0]}


async def test_the_models_tensors_are_listed(http: httpx2.AsyncClient) -> None:
    models = (await http.get("/models")).json()["models"]
    assert [each["name"] for each in models] == ["batched", "odd name.v2", "optional16", "plain", "stream", "stream16"]
    assert models[1]["endpoint"] == "/models/odd%20name.v2/infer"
    problem = (await http.get("/models/batched")).json()
    assert (problem["max_batch_size"], problem["decoupled"], problem["ready"]) == (4, False, True)
    # Members that do not apply to a tensor are omitted.
    (x, _), (y, _) = problem["inputs"], problem["outputs"]
    assert x == {"name": "x", "datatype": "INT32", "dims": [2], "example": [1, 1], "optional": False}
    assert y == {"name": "x", "datatype": "INT32", "dims": [2], "example": [1, 1], "max_classes": 2}
    assert problem["versions"] == [{"version": "1", "state": "READY"}]


async def test_every_example_of_the_openapi_document_works(http: httpx2.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    num_tried = 0
    for path, item in document["paths"].items():
        body = item.get("post", {}).get("requestBody")
        for each in body["content"]["application/json"]["examples"].values() if body else ():
            response = await http.post(path.replace("{version}", "1"), json=each["value"])
            assert response.status_code == 200, (path, response.text)
            num_tried += 1
    assert num_tried == 12


async def test_the_openapi_document_can_be_made_without_a_server(http: httpx2.AsyncClient, triton: FakeTriton) -> None:
    served = [GeneratedModel(each.config, triton.unstreamable(each.config)) for each in triton.models.values()]
    offline = openapi.paths(each.config for each in served if not each.obstacles)
    online = (await http.get("/openapi.json")).json()
    assert offline["paths"].items() <= online["paths"].items()
    assert json.loads(json.dumps(offline))["components"]["schemas"].items() <= online["components"]["schemas"].items()


def test_component_names_are_valid_and_unique() -> None:
    names = ["a b", "a.20.b", "a_b", "größe", "a.b"]
    schemas = openapi.paths(model(name, tensor("x")) for name in names)["components"]["schemas"]
    made = [name for name in schemas if name.startswith("models.")]
    assert len(made) == 2 * len(names)
    assert all(name.replace(".", "").replace("_", "").replace("-", "").isascii() for name in made)


async def test_a_route_of_the_app_replaces_a_generated_one(triton: FakeTriton) -> None:
    app = TritonFrontend(triton=triton, settings=SETTINGS)

    @app.post("/models/plain/infer")
    async def mine() -> str:
        return "mine"

    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        await app.registry.poll()
        assert (await http.post("/models/plain/infer")).json() == "mine"
        assert (await http.get("/openapi.json")).json()["paths"]["/models/plain/infer"]["post"]["summary"] == "Mine"


async def test_without_the_setting_there_are_no_generated_endpoints(triton: FakeTriton) -> None:
    for app in (TritonFrontend(triton=triton, settings=Settings()), TritonFrontend(triton=triton, generate=False)):
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://test") as http,
        ):
            await asyncio.sleep(0)
            assert (await http.get("/models")).status_code == 404


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("normalise=unit", "unsupported_parameter", "no query option `normalise`; did you mean `normalize`?"),
        ("x=1", "unsupported_parameter", "no query option `x`; known are `arrays`, `normalize`, `classes`."),
        ("arrays=list&arrays=npy", "repeated_field", "The query has `arrays` 2 times. Send it once."),
    ],
)
@pytest.mark.parametrize("path", ["/models/plain/infer", "/models/plain/versions/1/infer"])
async def test_unknown_and_repeated_query_options_are_refused(
    http: httpx2.AsyncClient, path: str, query: str, code: str, words: str
) -> None:
    problem = problem_of(await http.post(f"{path}?{query}", json={}), 422)
    assert (problem["code"], words in problem["detail"]) == (code, True), problem
