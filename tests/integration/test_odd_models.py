# SPDX-License-Identifier: Apache-2.0
"""Generated endpoints with odd models on a real Triton: all datatypes in both directions, errors that name fields."""

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_triton.triton.datatypes import BY_WIRE, DATATYPES
from support import odd_repository
from support.json_values import same, values
from support.scribble_app import base64_picture
from support.serving import Server, serving

pytestmark = pytest.mark.integration

# One for all tests: creating one takes longer than a request.
CLIENT = httpx2.Client(timeout=60)
NUMBERS = [each.wire for each in DATATYPES if each.kind in ("integer", "float")]
MODEL_OF = {wire: "integers" if BY_WIRE[wire].kind == "integer" else "floats" for wire in NUMBERS}


@pytest.fixture(scope="module", autouse=True)
def connections() -> Iterator[None]:
    yield
    CLIENT.close()


def infer(server: Server, model: str, body: Any, query: str = "") -> httpx2.Response:
    return CLIENT.post(f"{server.url}/models/{model}/infer{query}", json=body)


def result(server: Server, model: str, body: Any, query: str = "") -> Any:
    response = infer(server, model, body, query)
    assert response.status_code == 200, response.text
    return response.json()


def problems(response: httpx2.Response, status: int = 422) -> list[tuple[str, str]]:
    assert response.status_code == status, response.text
    return [(each["pointer"], each["code"]) for each in response.json().get("errors", ())]


def test_models_are_listed_with_an_endpoint_or_a_reason(odd_server: Server) -> None:
    models = {each["name"]: each for each in odd_server.get("/models").json()["models"]}
    assert sorted(models) == odd_repository.NAMES
    without = {name: each["reason"] for name, each in models.items() if each["endpoint"] is None}
    assert set(without) == {"broken"}
    assert "no weights here" in without["broken"]
    assert problems(infer(odd_server, "broken", {"x": 1}), 503) == []


@pytest.mark.parametrize("wire", NUMBERS)
@settings(max_examples=12)
@given(data=st.data())
def test_numbers_come_back_unchanged(odd_server: Server, wire: str, data: st.DataObject) -> None:
    sent = data.draw(st.lists(values(BY_WIRE[wire]), max_size=20))
    came = result(odd_server, MODEL_OF[wire], {wire: sent})
    assert same(sent, came[wire], BY_WIRE[wire])


@pytest.mark.parametrize("wire", NUMBERS)
@pytest.mark.parametrize("form", ["npy", "base64"])
def test_binary_numbers_come_back_bit_for_bit(odd_server: Server, wire: str, form: str) -> None:
    plain = result(odd_server, MODEL_OF[wire], {wire: [1, 0, 3]})
    binary = result(odd_server, MODEL_OF[wire], {wire: [1, 0, 3]}, f"?arrays={form}")
    assert set(binary[wire]) >= {form}
    assert result(odd_server, MODEL_OF[wire], binary, f"?arrays={form}") == binary
    assert result(odd_server, MODEL_OF[wire], binary) == plain


@settings(max_examples=12)
@given(data=st.data())
def test_texts_bytes_and_booleans_come_back_unchanged(odd_server: Server, data: st.DataObject) -> None:
    text, boolean = values(BY_WIRE["BYTES"]), st.booleans()
    row = st.lists(text, min_size=2, max_size=2)
    sent = {
        "one": data.draw(text),
        "many": data.draw(st.lists(text, max_size=4)),
        "grid": data.draw(st.lists(row, min_size=2, max_size=2)),
        "flags": data.draw(st.lists(boolean, max_size=9)),
    }
    assert result(odd_server, "texts", sent) == sent


def test_odd_names_and_the_largest_numbers_work(odd_server: Server) -> None:
    body = {
        "input.1": -(2**31),
        "INPUT-0": [1.5],
        "class": "cat",
        "model_config": True,
        "schema": 127,
        "a/b~c": 2**63 - 1,
        "größe": 255,
        "self": 1e-300,
    }
    assert result(odd_server, "odd-names.v2", body) == body
    assert problems(infer(odd_server, "odd-names.v2", {**body, "a/b~c": 2**63, "größe": -1, "classs": 1})) == [
        ("#/a~1b~0c", "out_of_range"),
        ("#/größe", "out_of_range"),
        ("#/classs", "unknown_field"),
    ]


def test_responses_have_the_batch_form_of_the_request(odd_server: Server) -> None:
    rows = [{"x": [n, n + 0.5], "word": f"w{n}", "weight": n} for n in range(4)]
    assert result(odd_server, "batched", rows) == rows
    assert result(odd_server, "batched", rows[1]) == rows[1]
    assert result(odd_server, "batched", rows[:1]) == rows[:1]
    assert problems(infer(odd_server, "batched", [*rows, rows[0]])) == [("#", "wrong_shape")]


def test_optional_inputs_can_be_omitted_but_not_all_of_them(odd_server: Server) -> None:
    assert result(odd_server, "all-optional", {"a": 1}) == {"a": 1}
    assert result(odd_server, "all-optional", [{"c": True}, {"c": False}]) == [{"c": True}, {"c": False}]
    assert problems(infer(odd_server, "all-optional", {})) == [("#", "missing_field")]
    assert problems(infer(odd_server, "all-optional", {"a": None})) == [("#/a", "wrong_type")]


def test_variable_dims_accept_any_shape_even_an_empty_one(odd_server: Server) -> None:
    for free in ([[1, 2, 3]], [[1], [2]], [], [[]], [[], []]):
        assert result(odd_server, "variable", {"free": free})["free"] == (free or [])
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    file = io.BytesIO()
    np.save(file, pixels)
    body = {"free": 1, "pixels": {"npy": base64.b64encode(file.getvalue()).decode()}}
    assert result(odd_server, "variable", body) == {"free": [[1.0]], "pixels": pixels.tolist()}


def test_content_hints_select_pictures_texts_and_bytes(odd_server: Server) -> None:
    picture = base64_picture()
    body = {"picture": picture, "picture_text": picture, "blob": "/w==", "note": "ä"}
    assert result(odd_server, "hinted", {**body, "picture_text": f"data:image/png;base64,{picture}"}) == body
    wrong = {"picture": "aGFsbG8=", "picture_text": "x", "blob": "?", "note": {"base64": "/w=="}}
    assert problems(infer(odd_server, "hinted", wrong)) == [
        ("#/picture", "not_an_image"),
        ("#/picture_text", "invalid_base64"),
        ("#/blob", "invalid_base64"),
        ("#/note", "wrong_type"),
    ]
    entry = odd_server.get("/models/hinted").json()
    assert entry["warnings"] == ["the parameter `content.nowhere` names no input or output of the model"]


def events(response: httpx2.Response) -> list[tuple[str, Any]]:
    assert response.status_code == 200, response.text
    blocks = response.text.strip().split("\n\n")
    lines = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [(each["event"], json.loads(each["data"])) for each in lines]


@pytest.mark.parametrize("model", ["repeat", "repeat_batched"])
def test_decoupled_model_streams(odd_server: Server, model: str) -> None:
    body = {"text": "hi ä", "times": 2, "values": [0.5, 1.0]}
    received = events(infer(odd_server, model, body))
    assert [name for name, _ in received] == ["response", "response", "completed"]
    assert [{name: data[name] for name in body} for _, data in received[:-1]] == [body, body]
    assert received[-1][1] == {"num_responses": 2}
    assert events(infer(odd_server, model, {"text": "", "times": 0})) == [("completed", {"num_responses": 0})]
    assert problems(infer(odd_server, model, [body])) == [("#", "wrong_shape")]


@pytest.mark.parametrize(("model", "outer"), [("repeat", []), ("repeat_batched", [1])])
def test_streams_carry_several_dims_in_the_shapes_of_the_config(
    odd_server: Server, model: str, outer: list[int]
) -> None:
    body = {
        "text": "",
        "times": 1,
        "values": [],
        "square": 7,
        "line": [[0.5, 1, -2]],
        "grid": [[2**64 - 1 - row * column for column in range(4)] for row in range(3)],
        "words": [["a", "", "ä"], ["\0", "'", "🎨"]],
        "flags": [[[True, False]], [[False, True]]],
    }
    (_, data), _ = events(infer(odd_server, model, body))
    shapes = json.loads(data.pop("shapes"))
    assert data == body
    assert shapes == {
        **{name: [*outer, 1] for name in ("text", "times")},
        "values": [*outer, 0],
        "square": [*outer, 1, 1],
        "line": [*outer, 1, 3],
        "grid": [*outer, 3, 4],
        "words": [*outer, 2, 3],
        "flags": [*outer, 2, 1, 2],
    }
    empty = {"line": [[]], "words": [], "flags": [[], []]}
    (_, data), _ = events(infer(odd_server, model, {"text": "", "times": 1, **empty}))
    assert {name: data[name] for name in empty} == empty
    assert json.loads(data["shapes"])["flags"] == [*outer, 2, 0, 2]
    wrong = infer(odd_server, model, {**body, "grid": [[1] * 4] * 6, "line": [1, 2]})
    assert [pointer for pointer, _ in problems(wrong)] == ["#/line", "#/grid"]


def test_grpc_carries_the_streams_that_http_cannot(odd_server: Server) -> None:
    body = {
        "times": 2,
        "half": [1.5, "-Infinity"],
        "bf16": [0.5, "NaN", 3],
        "pair": [[1, 2], [3, 4], [5, 6]],
        "blob": base64.b64encode(b"\xff\0").decode(),
        "model_name": "mine",
    }
    received = events(infer(odd_server, "repeat_fp16", body))
    assert [name for name, _ in received] == ["response", "response", "completed"]
    shapes = json.loads(received[0][1].pop("shapes"))
    assert received[0][1] == body
    assert shapes == {
        **{name: [1] for name in ("times", "blob", "model_name")},
        "half": [2],
        "bf16": [3],
        "pair": [3, 2],
    }
    binary = events(infer(odd_server, "repeat_fp16", body, "?arrays=base64"))[0][1]
    assert binary["half"]["shape"] == [2]


def test_grpc_carries_requests_that_http_cannot(odd_server: Server) -> None:
    body = {"times": 1, "text": {"base64": "/w=="}, "values": ["NaN", 1], "parameters": 7, "half": 0.5}
    data = events(infer(odd_server, "repeat_batched", body))[0][1]
    assert (data["text"], data["values"]) == (body["text"], body["values"])
    assert json.loads(data["shapes"])["half"] == [1, 1]
    assert not any("left_out" in each for each in odd_server.get("/models/repeat_batched").json()["inputs"])


def test_failing_grpc_stream_ends_with_an_error_event_or_a_status(odd_server: Server) -> None:
    received = events(infer(odd_server, "repeat_fp16", {"times": -1}))
    assert [name for name, _ in received] == ["response", "error"]
    assert received[-1][1]["code"] == "inference_failed"
    assert problems(infer(odd_server, "repeat_fp16", {"times": -2}), 502) == []
    assert events(infer(odd_server, "repeat_fp16", {"times": 0})) == [("completed", {"num_responses": 0})]


def test_a_closed_stream_is_cancelled_in_the_model(odd_server: Server) -> None:
    with CLIENT.stream("POST", f"{odd_server.url}/models/repeat/infer", json={"times": -3, "text": ""}) as response:
        assert "event: response" in next(response.iter_text())
    # The model blocks its only instance until it is cancelled.
    assert events(infer(odd_server, "repeat", {"times": 0, "text": ""})) == [("completed", {"num_responses": 0})]


def test_iterative_scheduling_needs_no_sequence_id(odd_server: Server) -> None:
    with ThreadPoolExecutor() as pool:
        streams = [pool.submit(infer, odd_server, "iterative", {"times": times}) for times in (1, 3, 5)]
    for times, stream in zip((1, 3, 5), streams, strict=True):
        received = events(stream.result())
        assert received == [
            *(("response", {"left": left}) for left in reversed(range(times))),
            ("completed", {"num_responses": times}),
        ]


def test_failing_stream_ends_with_an_error_event_or_a_status(odd_server: Server) -> None:
    received = events(infer(odd_server, "repeat", {"text": "a", "times": -1}))
    assert [name for name, _ in received] == ["response", "error"]
    assert received[-1][1]["code"] == "inference_failed"
    assert problems(infer(odd_server, "repeat", {"text": "a", "times": -2}), 502) == []


def test_model_errors_do_not_reveal_their_text(odd_server: Server) -> None:
    raised = infer(odd_server, "failing", {"how": "raise"})
    assert problems(raised, 502) == []
    assert "secret" not in raised.text
    failed = infer(odd_server, "failing", {"how": "refuse"})
    assert (failed.status_code, failed.json()["code"]) == (422, "refused_by_triton")
    assert result(odd_server, "failing", {"how": "silent"}) == {}
    assert problems(infer(odd_server, "failing", {"how": "shape"}), 502) == []
    assert result(odd_server, "failing", {"how": "fine"}) == {"how": "fine"}


def test_rows_of_different_length_run_in_one_batch_of_triton(odd_server: Server) -> None:
    rows = [{"ids": [1], "word": "a"}, {"ids": [2, 3], "word": "b"}, {"ids": [4], "word": "c"}, {"ids": [], "word": ""}]
    assert result(odd_server, "ragged", rows) == [{**row, "batch": 4} for row in rows]
    failed = infer(odd_server, "ragged", [rows[0], {"ids": [-1, 0], "word": "b"}, rows[2], rows[3]])
    assert problems(failed) == [("#/1", "refused_by_triton")]
    assert failed.json()["detail"].endswith("Triton rejected the request: no")


def test_init_writes_endpoints_for_these_models(odd_server: Server, tmp_path: Path) -> None:
    triton = f"http://{odd_server.triton_url}"
    for command in (("init", str(tmp_path), "--from-triton", triton), ("check", "main:app", "--triton", triton)):
        arguments = [sys.executable, "-m", "fastapi_triton", *command]
        done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert '# "broken": Triton has not loaded it.\n' in (tmp_path / "main.py").read_text()
    names = {"input_1": 1, "INPUT_0": [2.5], "class_": "c", "model_config_": True, "schema_": 1, "a_b_c": 2}
    with serving("main:app", "--triton", triton, folder=tmp_path) as server:
        server.wait_until_ready()
        for model, request in (
            ("plain", {"x": 1.5, "v": [1, 2], "m": [[1, 2, 3], [4, 5, 6]]}),
            ("batched", {"x": [1, 2], "word": "hä", "weight": 0.5}),
            ("odd-names.v2", {**names, "größe": 3, "self": 4}),
        ):
            response = server.post(f"/{model}/infer", json=request)
            assert response.status_code == 200, response.text
            assert response.json() == request


def test_a_sequence_keeps_its_state_until_its_end(odd_server: Server) -> None:
    ensemble = {"value": 5, "sequence_id": 9}
    assert result(odd_server, "remembers_ensemble", {**ensemble, "sequence_start": True}) == {"total": 5}
    assert result(odd_server, "remembers_ensemble", {**ensemble, "sequence_end": True}) == {"total": 10}
    assert problems(infer(odd_server, "remembers_ensemble", {"value": 5})) == [("#/sequence_id", "missing_field")]

    def add(x: int, sequence: int, **fields: bool) -> Any:
        return result(odd_server, "remembers", {"x": x, "sequence_id": sequence, **fields})["sum"]

    assert [add(1, 7, sequence_start=True), add(10, 8, sequence_start=True), add(2, 7), add(20, 8)] == [1, 10, 3, 30]
    assert [add(3, 7, sequence_end=True), add(30, 8, sequence_end=True)] == [6, 60]
    ended = infer(odd_server, "remembers", {"x": 4, "sequence_id": 7})
    assert problems(ended) == [("#/sequence_start", "unknown_sequence")]
    assert "60 s without a request" in ended.json()["detail"]
    assert problems(infer(odd_server, "remembers", {"x": 4, "sequence_id": "7"})) == [("#/sequence_id", "wrong_type")]
