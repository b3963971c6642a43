# SPDX-License-Identifier: Apache-2.0
"""The public model's `model.py` on a stand-in for Triton's Python backend, before an engine that the test plays."""

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import triton_backend
from drawings import FACADE_FOLDER, MODEL_FOLDER
from facade_engine import PATIENCE_S, Answer, Engine, Row, event, failed, painted
from google.protobuf import json_format, text_format
from test_triton_model import MODEL_CONFIG as TWIN_CONFIG
from triton_backend import DATATYPES, LOG, Request, Response, Tensor, TritonModelException
from tritonclient.grpc import model_config_pb2

MODEL_CONFIG = json_format.MessageToDict(
    text_format.Parse((FACADE_FOLDER / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()),
    preserving_proto_field_name=True,
)
INPUTS = {tensor["name"]: DATATYPES[tensor["data_type"]] for tensor in MODEL_CONFIG["input"]}
OUTPUTS = {tensor["name"]: DATATYPES[tensor["data_type"]] for tensor in MODEL_CONFIG["output"]}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    played = Engine()
    monkeypatch.setattr(triton_backend.backend(), "InferenceRequest", played.request, raising=False)
    return played


@pytest.fixture
def make_model(engine: Engine) -> Iterator[Callable[..., Any]]:
    spec = importlib.util.spec_from_file_location("facade_model_under_test", FACADE_FOLDER / "1" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    models: list[Any] = []

    def make(*, max_open_rows: int | None = None) -> Any:
        config = json.loads(json.dumps(MODEL_CONFIG))
        if max_open_rows is not None:
            config["parameters"]["max_open_rows"]["string_value"] = str(max_open_rows)
        model = module.TritonPythonModel()
        model.initialize({"model_config": json.dumps(config)})
        models.append(model)
        return model

    LOG.clear()
    yield make
    engine.gate.set()
    for model in models:
        model.finalize()


@pytest.fixture
def model(make_model: Callable[..., Any]) -> Any:
    return make_model()


def request(num_rows: int = 1, **columns: list[Any]) -> Request:
    """Every value is a column with one entry per row."""
    values = {
        "prompt": [f"row {index}".encode() for index in range(num_rows)],
        "image": [f"scribble {index}".encode() for index in range(num_rows)],
        "conditioning_scale": [1.0] * num_rows,
        "seed": list(range(num_rows)),
        **columns,
    }
    return Request(Tensor(name, np.array(column, dtype=INPUTS[name]).reshape(-1, 1)) for name, column in values.items())


def test_one_row_gives_one_picture(model: Any, engine: Engine) -> None:
    asked = request()
    assert model.execute([asked]) == [None]
    outputs = asked.final().outputs()
    assert outputs["generated_image"].tolist() == [[b"made of scribble 0"]]
    assert engine.asked[0][0] == "sdxl_scribble_controlnet_stream"
    assert asked.num_finals == len(asked.responses) == 1


def test_the_outputs_are_those_of_the_model_config(model: Any) -> None:
    asked = request(3)
    model.execute([asked])
    outputs = asked.final().outputs()
    assert {name: array.dtype.type for name, array in outputs.items()} == OUTPUTS
    assert {array.shape for array in outputs.values()} == {(3, 1)}


def test_rows_are_gathered_in_order_whichever_is_done_first(model: Any, engine: Engine) -> None:
    done = [threading.Event() for _ in range(4)]
    done[3].set()

    def last_comes_first(row: Row) -> list[Response]:
        index = int(row["seed"][0])
        if index < 3:
            assert done[index + 1].wait(PATIENCE_S)
        done[index].set()
        return painted(row)

    engine.answer = last_comes_first
    asked = request(4)
    model.execute([asked])
    outputs = asked.final().outputs()
    assert outputs["seed"].tolist() == [[0], [1], [2], [3]]
    assert [json.loads(info)["prompt"] for info in outputs["info"][:, 0]] == ["row 0", "row 1", "row 2", "row 3"]


def test_all_rows_of_all_requests_are_under_way_at_once_and_execute_waits_for_none(model: Any, engine: Engine) -> None:
    engine.gate.clear()
    asked = [request(8), request(8), request(1)]
    assert model.execute(asked) == [None] * 3
    engine.wait_until_inside(17)
    assert not any(one.is_answered for one in asked)
    engine.gate.set()
    assert [len(one.final().outputs()["seed"]) for one in asked] == [8, 8, 1]


def test_a_row_carries_what_was_sent_for_it_and_nothing_else(model: Any) -> None:
    asked = request(2, num_inference_steps=[4, 8], scheduler=[b"lcm", b"euler"])
    model.execute([asked])
    (info,) = {json.dumps(json.loads(info)["inputs"]) for info in asked.final().outputs()["info"][:, 0]}
    assert json.loads(info) == sorted(
        ["prompt", "image", "conditioning_scale", "seed", "num_inference_steps", "scheduler"]
    )


def test_raw_bytes_and_text_go_through_untouched(model: Any) -> None:
    asked = request(2, image=[b"\x89PNG\x00\xff", b"iVBORw0KGgo="])
    model.execute([asked])
    pictures = asked.final().outputs()["generated_image"][:, 0].tolist()
    assert pictures == [b"made of \x89PNG\x00\xff", b"made of iVBORw0KGgo="]


@pytest.mark.parametrize(
    ("code", "triton_code"),
    [
        ("invalid_base64", "INVALID_ARG"),
        ("queue_full", "UNAVAILABLE"),
        ("deadline_exceeded", "UNAVAILABLE"),
        ("out_of_memory", "UNAVAILABLE"),
        ("generation_failed", "INTERNAL"),
    ],
)
def test_a_rows_error_fails_its_own_request_only(model: Any, engine: Engine, code: str, triton_code: str) -> None:
    engine.answer = lambda row: failed(code, triton_code) if row["image"][0] == b"bad" else painted(row)
    asked = [request(2), request(3, image=[b"fine", b"bad", b"fine"]), request(1)]
    model.execute(asked)
    problem = asked[1].final().problem
    assert problem == {"code": code, "detail": f"because of {code}", "field": "image"}
    assert asked[1].final().error().code == triton_code
    assert [one.final().has_error() for one in asked] == [False, True, False]
    assert [one.num_finals for one in asked] == [1, 1, 1]


def test_a_request_is_answered_only_when_its_last_row_is_done_even_if_one_failed(model: Any, engine: Engine) -> None:
    may_end, has_failed = threading.Event(), threading.Event()

    def answer(row: Row) -> list[Response]:
        if row["seed"][0] == 0:
            has_failed.set()
            return failed("invalid_base64")
        assert may_end.wait(PATIENCE_S)
        return painted(row)

    engine.answer = answer
    asked = request(2)
    model.execute([asked])
    assert has_failed.wait(PATIENCE_S)
    assert not asked.is_answered
    may_end.set()
    assert asked.final().problem["code"] == "invalid_base64"


def test_an_engine_that_cannot_be_reached_is_logged_and_not_told(model: Any, engine: Engine) -> None:
    def unreachable(_: Row) -> list[Response]:
        raise TritonModelException("secret: model 'sdxl_scribble_controlnet_stream' is not loaded")

    engine.answer = unreachable
    asked = request(2)
    model.execute([asked])
    assert asked.final().error().code == "INTERNAL"
    assert asked.final().problem["code"] == "generation_failed"
    assert "secret" not in asked.final().error().text
    assert "is not loaded" in LOG[0]


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [event("queued")],
        [event("completed", generated_image=b"without a seed")],
        [event("failed", info=b"no JSON")],
    ],
)
def test_an_engine_that_answers_nonsense_still_gets_the_caller_an_answer(
    model: Any, engine: Engine, answers: list[Response]
) -> None:
    engine.answer = lambda _: answers
    asked = request(2)
    model.execute([asked])
    assert asked.final().problem["code"] == "generation_failed"


def test_more_rows_than_may_be_open_are_refused_at_once_with_a_time_to_come_back(
    make_model: Callable[..., Any], engine: Engine
) -> None:
    model = make_model(max_open_rows=3)
    engine.gate.clear()
    inside, too_much, fits = request(2), request(2), request(1)
    model.execute([inside, too_much, fits])
    refused = too_much.final()
    assert (refused.problem["code"], refused.error().code) == ("queue_full", "UNAVAILABLE")
    assert refused.problem["retry_after_s"] > 0
    engine.gate.set()
    assert not inside.final().has_error()
    assert not fits.final().has_error()


@pytest.mark.parametrize("answer", [painted, lambda _: failed("invalid_base64"), lambda _: [][1]])
def test_rows_that_are_done_make_room_however_they_ended(
    make_model: Callable[..., Any], engine: Engine, answer: Answer
) -> None:
    model = make_model(max_open_rows=2)
    engine.answer = answer
    for _ in range(5):
        asked = request(2)
        model.execute([asked])
        asked.answers()
    engine.answer = painted
    asked = request(2)
    model.execute([asked])
    assert not asked.final().has_error()


@pytest.mark.parametrize("name", ["prompt", "image", "conditioning_scale"])
def test_a_required_input_that_triton_did_not_miss_is_refused_by_name(model: Any, engine: Engine, name: str) -> None:
    asked = request()
    del asked.tensors[name]
    model.execute([asked])
    refused = asked.final()
    assert refused.error().code == "INVALID_ARG"
    assert refused.problem == {"code": "missing_input", "detail": f"`{name}` is required, but missing.", "field": name}
    assert engine.asked == []


@pytest.mark.parametrize("answer", [painted, lambda _: failed("invalid_base64")])
def test_no_rows_iterator_ends_before_triton_has_forgotten_it(model: Any, engine: Engine, answer: Answer) -> None:
    """Triton has when it answers a question that came after the last response."""
    engine.answer = answer
    asked, alive = request(4), []

    def is_cancelled() -> bool:
        alive.append(sum(iterator() is not None for iterator in engine.iterators))
        return False

    asked.is_cancelled = is_cancelled  # type: ignore[method-assign]
    model.execute([asked])
    asked.answers()
    assert alive == [4]


def test_a_request_that_cannot_be_read_fails_alone(model: Any, engine: Engine) -> None:
    """If `execute` raised, Triton would fail all requests of the call and free what the others answer with."""

    def unreadable() -> Any:
        raise ValueError("secret bytes")

    asked = [request(), request(), request()]
    asked[1].tensors["prompt"].as_numpy = unreadable  # type: ignore[method-assign]
    model.execute(asked)
    assert asked[1].final().problem["code"] == "generation_failed"
    assert "secret" not in asked[1].final().error().text
    assert not any(one.final().has_error() for one in (asked[0], asked[2]))
    assert [one.num_finals for one in asked] == [1, 1, 1]


def test_a_row_for_which_no_thread_can_be_started_waits_for_one(
    model: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    asked = [request(2), request(3)]
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        model.execute(asked)
    assert not any(one.final().has_error() for one in asked)
    assert [one.num_finals for one in asked] == [1, 1]
    assert model.num_rows == 0


def test_a_client_that_is_gone_costs_the_others_nothing(model: Any) -> None:
    gone, other = request(), request()
    gone.is_refused = True
    model.execute([gone, other])
    assert not other.final().has_error()
    gone.answers()
    model.finalize()
    assert any("the client is gone" in line for line in LOG)


def test_it_waits_for_its_rows_when_it_is_unloaded(make_model: Callable[..., Any], engine: Engine) -> None:
    model = make_model()
    asked = [request(3) for _ in range(4)]
    model.execute(asked)
    model.finalize()
    assert all(one.is_answered for one in asked)


def test_it_asks_the_twin_for_outputs_that_it_has_and_sends_inputs_that_it_takes(model: Any, engine: Engine) -> None:
    asked = request()
    model.execute([asked])
    asked.answers()
    assert set(engine.asked[0][1]) <= {tensor["name"] for tensor in TWIN_CONFIG["output"]}
    twin = {tensor["name"]: tensor["data_type"] for tensor in TWIN_CONFIG["input"]}
    assert all(twin[tensor["name"]] == tensor["data_type"] for tensor in MODEL_CONFIG["input"])
    assert MODEL_CONFIG["parameters"]["stream_model"]["string_value"] == MODEL_FOLDER.name


def test_it_loads_no_networks_and_nothing_of_the_engine() -> None:
    """It is up in a moment, and holds no memory that the engine needs."""
    code = (
        "import sys, types;"
        "sys.modules['triton_python_backend_utils'] = types.ModuleType('triton_python_backend_utils');"
        "import model;"
        "unwanted = {'torch', 'diffusers', 'transformers', 'PIL', 'diffusion_engine', 'triton_adapter', 'fastapi'};"
        "sys.exit(', '.join(unwanted & sys.modules.keys()) or None)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=FACADE_FOLDER / "1", check=False, capture_output=True)
    assert (ran.returncode, ran.stderr.strip()) == (0, b"")
