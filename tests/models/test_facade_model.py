# SPDX-License-Identifier: Apache-2.0
"""The public model's `model.py` with stand-ins for Triton's Python backend and for the engine."""

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
from facade_engine import PATIENCE_S, Engine, Respond, Row, event, failed, painted
from google.protobuf import json_format, text_format
from stream_model import MODEL_CONFIG as STREAM_CONFIG
from triton_backend import DATATYPES, LOG, Request, Response, Tensor, TritonError, TritonModelException
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
    """A request with one entry per row in each column."""
    values = {
        "prompt": [f"row {index}".encode() for index in range(num_rows)],
        "image": [f"scribble {index}".encode() for index in range(num_rows)],
        "conditioning_scale": [1.0] * num_rows,
        "seed": list(range(num_rows)),
        **columns,
    }
    return Request(Tensor(name, np.array(column, dtype=INPUTS[name]).reshape(-1, 1)) for name, column in values.items())


def test_one_row_makes_one_picture(model: Any, engine: Engine) -> None:
    sent = request()
    assert model.execute([sent]) == [None]
    outputs = sent.final().outputs()
    assert outputs["generated_image"].tolist() == [[b"made of scribble 0"]]
    assert engine.calls[0][0] == "sdxl_scribble_controlnet_stream"
    assert sent.num_finals == len(sent.responses) == 1


def test_the_outputs_are_those_of_the_model_config(model: Any) -> None:
    sent = request(3)
    model.execute([sent])
    outputs = sent.final().outputs()
    assert {name: array.dtype.type for name, array in outputs.items()} == OUTPUTS
    assert {array.shape for array in outputs.values()} == {(3, 1)}


def test_rows_of_the_response_are_in_order_of_the_request(model: Any, engine: Engine) -> None:
    done = [threading.Event() for _ in range(4)]
    done[3].set()

    def last_comes_first(row: Row) -> list[Response]:
        index = int(row["seed"][0])
        if index < 3:
            assert done[index + 1].wait(PATIENCE_S)
        done[index].set()
        return painted(row)

    engine.respond = last_comes_first
    sent = request(4)
    model.execute([sent])
    outputs = sent.final().outputs()
    assert outputs["seed"].tolist() == [[0], [1], [2], [3]]
    assert [json.loads(info)["prompt"] for info in outputs["info"][:, 0]] == ["row 0", "row 1", "row 2", "row 3"]


def test_all_rows_run_at_once_and_execute_does_not_wait(model: Any, engine: Engine) -> None:
    engine.gate.clear()
    sent = [request(8), request(8), request(1)]
    assert model.execute(sent) == [None] * 3
    engine.wait_until_inside(17)
    assert not any(one.has_ended for one in sent)
    engine.gate.set()
    assert [len(one.final().outputs()["seed"]) for one in sent] == [8, 8, 1]


def test_row_has_exactly_the_inputs_that_were_sent(model: Any) -> None:
    sent = request(2, num_inference_steps=[4, 8], scheduler=[b"lcm", b"euler"])
    model.execute([sent])
    (info,) = {json.dumps(json.loads(info)["inputs"]) for info in sent.final().outputs()["info"][:, 0]}
    assert json.loads(info) == sorted(
        ["prompt", "image", "conditioning_scale", "seed", "num_inference_steps", "scheduler"]
    )


def test_raw_bytes_and_text_are_passed_on_unchanged(model: Any) -> None:
    sent = request(2, image=[b"\x89PNG\x00\xff", b"iVBORw0KGgo="])
    model.execute([sent])
    pictures = sent.final().outputs()["generated_image"][:, 0].tolist()
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
def test_error_of_a_row_fails_only_its_request(model: Any, engine: Engine, code: str, triton_code: str) -> None:
    engine.respond = lambda row: failed(code, triton_code) if row["image"][0] == b"bad" else painted(row)
    sent = [request(2), request(3, image=[b"fine", b"bad", b"fine"]), request(1)]
    model.execute(sent)
    problem = sent[1].final().problem
    assert problem == {"code": code, "detail": f"because of {code}", "field": "image"}
    assert sent[1].final().error().code == triton_code
    assert [one.final().has_error() for one in sent] == [False, True, False]
    assert [one.num_finals for one in sent] == [1, 1, 1]


def test_response_waits_for_the_last_row_even_if_one_failed(model: Any, engine: Engine) -> None:
    may_end, has_failed = threading.Event(), threading.Event()

    def respond(row: Row) -> list[Response]:
        if row["seed"][0] == 0:
            has_failed.set()
            return failed("invalid_base64")
        assert may_end.wait(PATIENCE_S)
        return painted(row)

    engine.respond = respond
    sent = request(2)
    model.execute([sent])
    assert has_failed.wait(PATIENCE_S)
    assert not sent.has_ended
    may_end.set()
    assert sent.final().problem["code"] == "invalid_base64"


def test_unreachable_engine_is_logged_and_not_disclosed(model: Any, engine: Engine) -> None:
    def unreachable(_: Row) -> list[Response]:
        raise TritonModelException("secret: model 'sdxl_scribble_controlnet_stream' is not loaded")

    engine.respond = unreachable
    sent = request(2)
    model.execute([sent])
    assert sent.final().error().code == "INTERNAL"
    assert sent.final().problem["code"] == "generation_failed"
    assert "secret" not in sent.final().error().text
    assert "is not loaded" in LOG[0]


@pytest.mark.parametrize("before", [[], [event("queued")]], ids=["first", "second"])
def test_error_of_triton_about_the_engine_keeps_its_code(model: Any, engine: Engine, before: list[Response]) -> None:
    engine.respond = lambda _: [*before, Response(_error=TritonError("Exceeds maximum queue size", "UNAVAILABLE"))]
    sent = request(2)
    model.execute([sent])
    error = sent.final().error()
    assert (error.text, error.code) == ("Exceeds maximum queue size", "UNAVAILABLE")


@pytest.mark.parametrize(
    "responses",
    [
        [],
        [event("queued")],
        [event("completed", generated_image=b"without a seed")],
        [event("failed", info=b"no JSON")],
    ],
)
def test_invalid_responses_of_the_engine_fail_the_request(
    model: Any, engine: Engine, responses: list[Response]
) -> None:
    engine.respond = lambda _: responses
    sent = request(2)
    model.execute([sent])
    assert sent.final().problem["code"] == "generation_failed"


def test_rows_over_max_open_rows_are_rejected_with_the_time_to_retry(
    make_model: Callable[..., Any], engine: Engine
) -> None:
    model = make_model(max_open_rows=3)
    engine.gate.clear()
    inside, too_much, fits = request(2), request(2), request(1)
    model.execute([inside, too_much, fits])
    rejected = too_much.final()
    assert (rejected.problem["code"], rejected.error().code) == ("queue_full", "UNAVAILABLE")
    assert rejected.problem["retry_after_s"] > 0
    engine.gate.set()
    assert not inside.final().has_error()
    assert not fits.final().has_error()


@pytest.mark.parametrize("respond", [painted, lambda _: failed("invalid_base64"), lambda _: [][1]])
def test_ended_rows_make_way_for_others(make_model: Callable[..., Any], engine: Engine, respond: Respond) -> None:
    model = make_model(max_open_rows=2)
    engine.respond = respond
    for _ in range(5):
        sent = request(2)
        model.execute([sent])
        sent.all_responses()
    engine.respond = painted
    sent = request(2)
    model.execute([sent])
    assert not sent.final().has_error()


@pytest.mark.parametrize("name", ["prompt", "image", "conditioning_scale"])
def test_missing_required_input_is_rejected_by_name(model: Any, engine: Engine, name: str) -> None:
    sent = request()
    del sent.tensors[name]
    model.execute([sent])
    rejected = sent.final()
    assert rejected.error().code == "INVALID_ARG"
    assert rejected.problem == {"code": "missing_input", "detail": f"`{name}` is required, but missing.", "field": name}
    assert engine.calls == []


@pytest.mark.parametrize("respond", [painted, lambda _: failed("invalid_base64")])
def test_no_iterator_of_a_row_is_freed_before_triton_has_dropped_it(
    model: Any, engine: Engine, respond: Respond
) -> None:
    """Triton has dropped them when `is_cancelled`, called after the last response, returns."""
    engine.respond = respond
    sent, alive = request(4), []

    def is_cancelled() -> bool:
        alive.append(sum(iterator() is not None for iterator in engine.iterators))
        return False

    sent.is_cancelled = is_cancelled  # type: ignore[method-assign]
    model.execute([sent])
    sent.all_responses()
    assert alive == [4]


def test_unreadable_request_fails_alone(model: Any, engine: Engine) -> None:
    """If `execute` raised, Triton would fail all requests of the call and free the response senders of the others."""

    def unreadable() -> Any:
        raise ValueError("secret bytes")

    sent = [request(), request(), request()]
    sent[1].tensors["prompt"].as_numpy = unreadable  # type: ignore[method-assign]
    model.execute(sent)
    assert sent[1].final().problem["code"] == "generation_failed"
    assert "secret" not in sent[1].final().error().text
    assert not any(one.final().has_error() for one in (sent[0], sent[2]))
    assert [one.num_finals for one in sent] == [1, 1, 1]


def test_row_waits_for_a_thread_if_none_can_be_started(
    model: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sent = [request(2), request(3)]
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        model.execute(sent)
    assert not any(one.final().has_error() for one in sent)
    assert [one.num_finals for one in sent] == [1, 1]
    assert model.num_rows == 0


def test_disconnected_client_does_not_affect_other_requests(model: Any) -> None:
    disconnected, other = request(), request()
    disconnected.fails_to_send = True
    model.execute([disconnected, other])
    assert not other.final().has_error()
    disconnected.all_responses()
    model.finalize()
    assert any("the client has disconnected" in line for line in LOG)


def test_unloading_waits_for_running_rows(make_model: Callable[..., Any], engine: Engine) -> None:
    model = make_model()
    sent = [request(3) for _ in range(4)]
    model.execute(sent)
    model.finalize()
    assert all(one.has_ended for one in sent)


def test_inputs_and_outputs_match_the_stream_models_config(model: Any, engine: Engine) -> None:
    sent = request()
    model.execute([sent])
    sent.all_responses()
    assert set(engine.calls[0][1]) <= {tensor["name"] for tensor in STREAM_CONFIG["output"]}
    stream_inputs = {tensor["name"]: tensor["data_type"] for tensor in STREAM_CONFIG["input"]}
    assert all(stream_inputs[tensor["name"]] == tensor["data_type"] for tensor in MODEL_CONFIG["input"])
    assert MODEL_CONFIG["parameters"]["stream_model"]["string_value"] == MODEL_FOLDER.name


def test_model_imports_neither_networks_nor_the_engine() -> None:
    """So it loads at once, and takes no memory from the engine."""
    code = (
        "import sys, types;"
        "sys.modules['triton_python_backend_utils'] = types.ModuleType('triton_python_backend_utils');"
        "import model;"
        "unwanted = {'torch', 'diffusers', 'transformers', 'PIL', 'diffusion_engine', 'triton_adapter', 'fastapi'};"
        "sys.exit(', '.join(unwanted & sys.modules.keys()) or None)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=FACADE_FOLDER / "1", check=False, capture_output=True)
    assert (ran.returncode, ran.stderr.strip()) == (0, b"")
