# SPDX-License-Identifier: Apache-2.0
"""The engine's `model.py` on a stand-in for Triton's Python backend: who gets which answer, and in which order."""

import base64
import importlib.util
import io
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import triton_backend
from diffusion_engine.engine import Engine
from diffusion_engine.errors import RequestError
from diffusion_engine.request import DiffusionRequest
from diffusion_engine.request_state import RequestState
from drawings import MODEL_FOLDER, VERSION_FOLDER, as_file, circle
from google.protobuf import json_format, text_format
from PIL import Image
from triton_backend import DATATYPES, FAMILIES, LOG, Request, Response, Tensor
from tritonclient.grpc import model_config_pb2

MODEL_CONFIG = json_format.MessageToDict(
    text_format.Parse((MODEL_FOLDER / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()),
    preserving_proto_field_name=True,
    always_print_fields_with_no_presence=True,  # as Triton does
)
INPUTS = {tensor["name"]: DATATYPES[tensor["data_type"]] for tensor in MODEL_CONFIG["input"]}
OUTPUTS = {tensor["name"]: DATATYPES[tensor["data_type"]] for tensor in MODEL_CONFIG["output"]}
TEXT = base64.b64encode(as_file(circle()))


@pytest.fixture(scope="session")
def module() -> Any:
    triton_backend.backend()
    spec = importlib.util.spec_from_file_location("engine_model_under_test", VERSION_FOLDER / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_model(module: Any, make_engine: Callable[..., Engine]) -> Iterator[Callable[..., Any]]:
    """As `initialize` leaves it, but with the networks that are loaded already."""
    models: list[Any] = []

    def make(**options: Any) -> Any:
        model = module.TritonPythonModel()
        model.input_names = list(INPUTS)
        model.engine = make_engine(**options)
        model.watcher = module.Watcher(model.engine.metrics)
        model.engine.start()
        model.watcher.start()
        models.append(model)
        return model

    LOG.clear()
    yield make
    for model in models:
        model.finalize()


@pytest.fixture
def model(make_model: Callable[..., Any]) -> Any:
    return make_model()


def request(*, is_terse: bool = False, **values: Any) -> Request:
    """None leaves a tensor out."""
    parameters = {"terse": True} if is_terse else {}
    named = {
        "prompt": b"a red circle on a blue background",
        "image": as_file(circle()),
        "conditioning_scale": 1.0,
        "seed": 1,
        "num_inference_steps": 3,
        "width": 96,
        "height": 96,
        **values,
    }
    tensors = (
        Tensor(name, np.array([value], dtype=INPUTS[name])) for name, value in named.items() if value is not None
    )
    return Request(tensors, **parameters)


def events(asked: Request) -> list[str]:
    return ["error" if answer.has_error() else answer.outputs()["event"][0].decode() for answer in asked.answers()]


def test_queued_comes_at_once_then_progress_then_the_picture(model: Any) -> None:
    asked = request(preview_every=1)
    assert model.execute([asked]) is None
    told = events(asked)
    assert (told[0], told[-1]) == ("queued", "completed")
    assert set(told[1:-1]) == {"progress"}
    assert asked.num_finals == 1
    steps = [answer.outputs()["step"][0] for answer in asked.responses[1:-1]]
    assert steps == sorted(set(steps))
    assert all(answer.outputs()["num_steps"].tolist() == [3] for answer in asked.responses[1:-1])


def test_every_output_has_the_datatype_and_shape_of_the_model_config(model: Any) -> None:
    asked = request(preview_every=1)
    model.execute([asked])
    seen: dict[str, Any] = {}
    for answer in asked.answers():
        seen |= answer.outputs()
    assert {name: array.dtype.type for name, array in seen.items()} == OUTPUTS
    assert {array.shape for array in seen.values()} == {(1,)}


def test_the_completed_event_carries_picture_seed_and_info(model: Any) -> None:
    asked = request(seed=7, output_format=b"png")
    model.execute([asked])
    outputs = asked.final().outputs()
    assert outputs["generated_image"][0].startswith(b"\x89PNG")
    assert outputs["seed"].tolist() == [7]
    assert json.loads(outputs["info"][0])["num_inference_steps"] == 3


def test_base64_comes_back_as_base64_and_a_preview_always_does(model: Any) -> None:
    asked = request(image=TEXT, preview_every=1)
    model.execute([asked])
    asked.answers()
    assert base64.b64decode(asked.final().outputs()["generated_image"][0], validate=True).startswith(b"RIFF")
    preview = base64.b64decode(asked.responses[1].outputs()["preview"][0], validate=True)
    assert Image.open(io.BytesIO(preview)).size == (24, 24)


def test_without_preview_every_no_preview_is_sent(model: Any) -> None:
    asked = request()
    model.execute([asked])
    assert not any("preview" in answer.outputs() for answer in asked.answers())


def test_nothing_overtakes_queued(model: Any) -> None:
    """Not even a refusal that is ready before `queued` is out."""
    asked = request(image=b"no base64!")
    is_failed, fail = threading.Event(), model.engine.output_processor.failed

    def note(state: RequestState, error: RequestError) -> None:
        fail(state, error)
        is_failed.set()

    def linger(response: Response) -> None:
        if not response.has_error():
            assert is_failed.wait(60)

    model.engine.output_processor.failed = note
    asked.before_sending = linger
    model.execute([asked])
    assert events(asked) == ["queued", "failed", "error"]
    assert asked.final().problem["code"] == "invalid_base64"


def test_a_model_that_calls_it_gets_queued_and_one_more_event_whatever_happens(model: Any) -> None:
    asked = [
        request(is_terse=True, preview_every=1),
        request(is_terse=True, image=b"no base64!"),
        request(is_terse=True, num_inference_steps=0),  # refused before it is queued
    ]
    model.execute(asked)
    assert [events(one) for one in asked] == [["queued", "completed"], ["queued", "failed"], ["failed"]]
    info = json.loads(asked[1].final().outputs()["info"][0])
    assert (info["code"], info["field"], info["triton_code"]) == ("invalid_base64", "image", "INVALID_ARG")
    assert [one.num_finals for one in asked] == [1, 1, 1]


@pytest.mark.parametrize(
    ("code", "triton_code"),
    [
        ("unknown_scheduler", "INVALID_ARG"),
        ("cancelled", "CANCELLED"),
        ("queue_full", "UNAVAILABLE"),
        ("deadline_exceeded", "UNAVAILABLE"),
        ("out_of_memory", "UNAVAILABLE"),
        ("generation_failed", "INTERNAL"),
        ("vae_overflow", "INTERNAL"),
    ],
)
def test_a_model_that_calls_it_and_a_client_get_the_same_triton_code(module: Any, code: str, triton_code: str) -> None:
    calling, client = request(), request()
    for asked, is_terse in ((calling, True), (client, False)):
        module.TritonListener(module.ResponseStream(asked), is_terse=is_terse).rejected(RequestError(code, "because"))
    info = json.loads(calling.final().outputs()["info"][0])
    assert info == {"code": code, "detail": "because", "triton_code": triton_code}
    assert client.final().error().code == triton_code
    assert client.final().problem == {"code": code, "detail": "because"}


def test_describe_answers_at_once_and_makes_nothing(model: Any) -> None:
    asked = request(describe=True)
    model.execute([asked])
    assert events(asked) == ["described"]
    told = json.loads(asked.final().outputs()["info"][0])
    assert told["defaults"]["width"] == 128
    assert told["engine"]["device"] == "cpu"
    assert model.engine.metrics.snapshot() == {}


def test_describe_false_is_a_request_like_any_other(model: Any) -> None:
    asked = request(describe=False)
    model.execute([asked])
    assert events(asked)[-1] == "completed"


def test_everything_may_be_left_out(model: Any) -> None:
    asked = Request([])
    model.execute([asked])
    outputs = asked.final().outputs()
    assert base64.b64decode(outputs["generated_image"][0], validate=True)
    assert json.loads(outputs["info"][0])["num_inference_steps"] == 12


@pytest.mark.parametrize(
    ("values", "code", "field", "triton_code"),
    [
        ({"image": b"no base64!"}, "invalid_base64", "image", "INVALID_ARG"),
        ({"scheduler": b"magic"}, "unknown_scheduler", "scheduler", "INVALID_ARG"),
        ({"num_inference_steps": 0}, "out_of_range", "num_inference_steps", "INVALID_ARG"),
        ({"num_inference_steps": 10_000}, "out_of_range", "num_inference_steps", "INVALID_ARG"),
        ({"width": 1024, "height": 1024}, "unsupported_size", "width", "INVALID_ARG"),
        ({"timeout_s": 1e-6}, "deadline_exceeded", "timeout_s", "UNAVAILABLE"),
    ],
)
def test_a_refusal_says_why_and_the_others_go_on(
    model: Any, values: dict[str, Any], code: str, field: str, triton_code: str
) -> None:
    asked = [request(), request(**values), request(seed=2)]
    model.execute(asked)
    refused = asked[1].final()
    assert (refused.problem["code"], refused.problem["field"]) == (code, field)
    assert refused.error().code == triton_code
    # Said as an event too, as to a model that calls this one: such a caller never sees the error.
    assert refused.problem == json.loads(asked[1].responses[-2].outputs()["info"][0])
    assert events(asked[1])[-2:] == ["failed", "error"]
    assert [events(one)[-1] for one in (asked[0], asked[2])] == ["completed", "completed"]
    assert [one.num_finals for one in asked] == [1, 1, 1]


def test_a_full_engine_refuses_at_once_and_says_when_to_come_back(make_model: Callable[..., Any]) -> None:
    model = make_model(max_requests=1)
    first, second = request(num_inference_steps=50), request()
    model.execute([first, second])
    assert events(second) == ["failed", "error"]
    assert second.final().error().code == "UNAVAILABLE"
    assert second.final().problem["code"] == "queue_full"
    assert second.final().problem["retry_after_s"] >= 1
    first.is_left = True
    assert events(first)[0] == "queued"


def test_a_caller_who_leaves_is_noticed_and_the_work_stops(model: Any) -> None:
    left, stays = request(num_inference_steps=50), request(num_inference_steps=50, seed=2)
    left.before_sending = lambda response: setattr(left, "is_left", len(left.responses) >= 1)
    model.execute([left, stays])
    assert left.final().error().code == "CANCELLED"
    assert left.final().problem["code"] == "cancelled"
    assert left.num_finals == 1
    stays.is_left = True
    stays.answers()
    assert model.engine.metrics.value("sdxl_engine_requests_total", how="cancelled") == 2


def test_a_response_that_cannot_be_sent_is_logged_and_costs_the_others_nothing(model: Any) -> None:
    gone, other = request(), request(seed=2)
    gone.is_refused = True
    model.execute([gone, other])
    assert events(other)[-1] == "completed"
    assert any("the client is gone" in line for line in LOG)


def test_an_unexpected_failure_is_logged_and_not_told(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> DiffusionRequest:
        raise ZeroDivisionError("secret path /srv/weights")

    monkeypatch.setattr(model.engine, "submit", fail)
    asked = request()
    model.execute([asked])
    assert asked.final().error().code == "INTERNAL"
    assert asked.final().problem["code"] == "generation_failed"
    assert "secret" not in asked.final().error().text
    assert "ZeroDivisionError: secret path" in LOG[-1]


def test_a_request_that_cannot_be_read_fails_alone(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If `execute` raised, Triton would fail all requests of the call and free what the others answer with."""

    def unreadable() -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    asked = [request(), request(seed=2)]
    monkeypatch.setattr(asked[0], "parameters", unreadable)
    model.execute(asked)
    assert asked[0].final().problem["code"] == "invalid_text"
    assert events(asked[1])[-1] == "completed"


def test_the_watcher_never_asks_after_the_final_response(model: Any) -> None:
    """The final response is held back while the watcher looks; then it is over, and the watcher looks on."""
    asked, num_asked_after = request(num_inference_steps=1), 0
    is_cancelled = asked.is_cancelled

    def ask() -> bool:
        nonlocal num_asked_after
        num_asked_after += asked.num_finals
        return is_cancelled()

    asked.is_cancelled = ask  # type: ignore[method-assign]
    stays = request(num_inference_steps=50, seed=2)
    model.execute([asked, stays])
    asked.answers()
    stays.is_left = True
    stays.answers()
    assert num_asked_after == 0


def test_a_model_that_is_unloaded_answers_whoever_is_inside(make_model: Callable[..., Any]) -> None:
    model = make_model()
    asked = [request(num_inference_steps=50, seed=seed) for seed in range(3)]
    model.execute(asked)
    model.finalize()
    assert all(one.is_answered for one in asked)
    assert {one.final().problem["code"] for one in asked if one.final().has_error()} <= {"shutting_down"}
    model.finalize = lambda: None


def test_the_metrics_are_published_with_their_labels(model: Any) -> None:
    asked = request(num_inference_steps=2)
    model.execute([asked])
    asked.answers()
    model.watcher.stop()
    assert FAMILIES["sdxl_engine_steps_total"].metrics['{"size": "96x96"}'].value == 2
    assert FAMILIES["sdxl_engine_rows_total"].metrics['{"size": "96x96"}'].value == 4
    assert FAMILIES["sdxl_engine_requests_total"].metrics['{"how": "finished"}'].value == 1
    assert FAMILIES["sdxl_engine_requests"].metrics["{}"].value == 0
    assert FAMILIES["sdxl_engine_requests"].kind == "gauge"


def test_it_loads_from_the_model_config(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DEVICE": "cpu", "MAX_ROWS": "4", "POLICY": "shortest_remaining"}.items():
        monkeypatch.setenv(f"SDXL_{name}", value)
    model = module.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(MODEL_CONFIG),
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
        }
    )
    asked, described = request(), request(describe=True)
    model.execute([asked, described])
    assert events(asked)[-1] == "completed"
    engine = json.loads(described.final().outputs()["info"][0])["engine"]
    assert (engine["policy"], engine["max_requests"], engine["max_rows"]["96x96"]) == ("shortest_remaining", 64, 4)
    model.finalize()
