# SPDX-License-Identifier: Apache-2.0
"""Generated endpoints in front of a real Triton with odd models: every datatype there and back, refusals by name."""

import base64
import io
import json
from collections.abc import Iterator
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
from support.serving import Server

pytestmark = pytest.mark.integration

# One for all: making one takes longer than a request.
CLIENT = httpx2.Client(timeout=60)
NUMBERS = [each.wire for each in DATATYPES if each.kind in ("integer", "float")]
MODEL_OF = {wire: "integers" if BY_WIRE[wire].kind == "integer" else "floats" for wire in NUMBERS}


@pytest.fixture(scope="module", autouse=True)
def connections() -> Iterator[None]:
    yield
    CLIENT.close()


def infer(server: Server, model: str, body: Any, query: str = "") -> httpx2.Response:
    return CLIENT.post(f"{server.url}/models/{model}/infer{query}", json=body)


def answer(server: Server, model: str, body: Any, query: str = "") -> Any:
    answered = infer(server, model, body, query)
    assert answered.status_code == 200, answered.text
    return answered.json()


def problems(answered: httpx2.Response, status: int = 422) -> list[tuple[str, str]]:
    assert answered.status_code == status, answered.text
    return [(each["pointer"], each["code"]) for each in answered.json().get("errors", ())]


def test_every_model_is_told_with_its_endpoint_or_the_reason_why_there_is_none(odd_server: Server) -> None:
    models = {each["name"]: each for each in odd_server.get("/models").json()["models"]}
    assert sorted(models) == odd_repository.NAMES
    without = {name: each["reason"] for name, each in models.items() if each["endpoint"] is None}
    assert set(without) == {"broken", "remembers", "repeat_fp16"}
    assert "no weights here" in without["broken"]
    assert "sequence" in without["remembers"]
    assert "`half` is FP16" in without["repeat_fp16"]
    assert problems(infer(odd_server, "broken", {"x": 1}), 503) == []
    assert problems(infer(odd_server, "remembers", {"x": 1}), 404) == []


@pytest.mark.parametrize("wire", NUMBERS)
@settings(max_examples=12)
@given(data=st.data())
def test_numbers_come_back_as_they_went(odd_server: Server, wire: str, data: st.DataObject) -> None:
    sent = data.draw(st.lists(values(BY_WIRE[wire]), max_size=20))
    came = answer(odd_server, MODEL_OF[wire], {wire: sent})
    assert same(sent, came[wire], BY_WIRE[wire])


@pytest.mark.parametrize("wire", NUMBERS)
@pytest.mark.parametrize("form", ["npy", "base64"])
def test_numbers_come_back_bit_by_bit_in_binary(odd_server: Server, wire: str, form: str) -> None:
    plain = answer(odd_server, MODEL_OF[wire], {wire: [1, 0, 3]})
    binary = answer(odd_server, MODEL_OF[wire], {wire: [1, 0, 3]}, f"?arrays={form}")
    assert set(binary[wire]) >= {form}
    assert answer(odd_server, MODEL_OF[wire], binary, f"?arrays={form}") == binary
    assert answer(odd_server, MODEL_OF[wire], binary) == plain


@settings(max_examples=12)
@given(data=st.data())
def test_texts_bytes_and_booleans_come_back_as_they_went(odd_server: Server, data: st.DataObject) -> None:
    text, boolean = values(BY_WIRE["BYTES"]), st.booleans()
    row = st.lists(text, min_size=2, max_size=2)
    sent = {
        "one": data.draw(text),
        "many": data.draw(st.lists(text, max_size=4)),
        "grid": data.draw(st.lists(row, min_size=2, max_size=2)),
        "flags": data.draw(st.lists(boolean, max_size=9)),
    }
    assert answer(odd_server, "texts", sent) == sent


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
    assert answer(odd_server, "odd-names.v2", body) == body
    assert problems(infer(odd_server, "odd-names.v2", {**body, "a/b~c": 2**63, "größe": -1, "classs": 1})) == [
        ("#/a~1b~0c", "out_of_range"),
        ("#/größe", "out_of_range"),
        ("#/classs", "unknown_field"),
    ]


def test_batches_mirror_what_was_sent(odd_server: Server) -> None:
    rows = [{"x": [n, n + 0.5], "word": f"w{n}", "weight": n} for n in range(4)]
    assert answer(odd_server, "batched", rows) == rows
    assert answer(odd_server, "batched", rows[1]) == rows[1]
    assert answer(odd_server, "batched", rows[:1]) == rows[:1]
    assert problems(infer(odd_server, "batched", [*rows, rows[0]])) == [("#", "wrong_shape")]


def test_what_is_left_out_is_left_out_and_something_must_be_given(odd_server: Server) -> None:
    assert answer(odd_server, "all-optional", {"a": 1}) == {"a": 1}
    assert answer(odd_server, "all-optional", [{"c": True}, {"c": False}]) == [{"c": True}, {"c": False}]
    assert problems(infer(odd_server, "all-optional", {})) == [("#", "missing_field")]
    assert problems(infer(odd_server, "all-optional", {"a": None})) == [("#/a", "wrong_type")]


def test_free_dims_take_any_shape_even_an_empty_one(odd_server: Server) -> None:
    for free in ([[1, 2, 3]], [[1], [2]], [], [[]], [[], []]):
        assert answer(odd_server, "variable", {"free": free})["free"] == (free or [])
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    file = io.BytesIO()
    np.save(file, pixels)
    body = {"free": 1, "pixels": {"npy": base64.b64encode(file.getvalue()).decode()}}
    assert answer(odd_server, "variable", body) == {"free": [[1.0]], "pixels": pixels.tolist()}


def test_pictures_texts_and_bytes_go_by_their_hints(odd_server: Server) -> None:
    picture = base64_picture()
    body = {"picture": picture, "picture_text": picture, "blob": "/w==", "note": "ä"}
    assert answer(odd_server, "hinted", {**body, "picture_text": f"data:image/png;base64,{picture}"}) == body
    wrong = {"picture": "aGFsbG8=", "picture_text": "x", "blob": "?", "note": {"base64": "/w=="}}
    assert problems(infer(odd_server, "hinted", wrong)) == [
        ("#/picture", "not_an_image"),
        ("#/picture_text", "invalid_base64"),
        ("#/blob", "invalid_base64"),
        ("#/note", "wrong_type"),
    ]
    told = odd_server.get("/models/hinted").json()
    assert told["warnings"] == ["the parameter `content.nowhere` names no input or output of the model"]


def events(answered: httpx2.Response) -> list[tuple[str, Any]]:
    assert answered.status_code == 200, answered.text
    blocks = answered.text.strip().split("\n\n")
    lines = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [(each["event"], json.loads(each["data"])) for each in lines]


@pytest.mark.parametrize("model", ["repeat", "repeat_batched"])
def test_a_decoupled_model_streams(odd_server: Server, model: str) -> None:
    body = {"text": "hi ä", "times": 2, "values": [0.5, 1.0]}
    told = events(infer(odd_server, model, body))
    assert told == [("response", body), ("response", body), ("completed", {"num_responses": 2})]
    assert events(infer(odd_server, model, {"text": "", "times": 0})) == [("completed", {"num_responses": 0})]
    assert problems(infer(odd_server, model, [body])) == [("#", "wrong_shape")]
    assert problems(infer(odd_server, model, {**body, "values": ["NaN"]})) == [("#/values", "not_finite")]
    assert problems(infer(odd_server, model, {**body, "text": {"base64": "/w=="}})) == [("#/text", "invalid_text")]


def test_a_stream_that_fails_says_so_in_its_last_event_or_at_once(odd_server: Server) -> None:
    told = events(infer(odd_server, "repeat", {"text": "a", "times": -1}))
    assert [name for name, _ in told] == ["response", "error"]
    assert told[-1][1]["code"] == "inference_failed"
    assert problems(infer(odd_server, "repeat", {"text": "a", "times": -2}), 502) == []


def test_a_models_failures_are_told_without_their_words(odd_server: Server) -> None:
    raised = infer(odd_server, "failing", {"how": "raise"})
    assert problems(raised, 502) == []
    assert "secret" not in raised.text
    refused = infer(odd_server, "failing", {"how": "refuse"})
    assert (refused.status_code, refused.json()["code"]) == (422, "refused_by_triton")
    assert answer(odd_server, "failing", {"how": "silent"}) == {}
    assert problems(infer(odd_server, "failing", {"how": "shape"}), 502) == []
    assert answer(odd_server, "failing", {"how": "fine"}) == {"how": "fine"}
