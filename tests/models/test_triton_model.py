# SPDX-License-Identifier: Apache-2.0
"""The engine's `model.py` with a stand-in for Triton's Python backend: the responses and their order."""

import base64
import importlib.util
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import triton_backend
from diffusion_engine import queue_reporter
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
    """The model as after `initialize`, but with networks that are already loaded."""
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
    """A request. None omits a tensor."""
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


def events(sent: Request) -> list[str]:
    return [
        "error" if response.has_error() else response.outputs()["event"][0].decode()
        for response in sent.all_responses()
    ]


def test_events_are_queued_then_progress_then_the_picture(model: Any) -> None:
    sent = request(preview_every=1)
    assert model.execute([sent]) is None
    names = events(sent)
    assert (names[0], names[-1]) == ("queued", "completed")
    assert set(names[1:-1]) == {"progress"}
    assert sent.num_finals == 1
    steps = [response.outputs()["step"][0] for response in sent.responses[1:-1]]
    assert steps == sorted(set(steps))
    assert all(response.outputs()["num_steps"].tolist() == [3] for response in sent.responses[1:-1])


def test_every_output_has_the_datatype_and_shape_of_the_model_config(model: Any) -> None:
    seen: dict[str, Any] = {}
    for _ in range(2):  # before the first step, there is no estimated wait
        sent = request(preview_every=1)
        model.execute([sent])
        for response in sent.all_responses():
            seen |= response.outputs()
    assert {name: array.dtype.type for name, array in seen.items()} == OUTPUTS
    assert {array.shape for array in seen.values()} == {(1,)}


def test_completed_event_has_picture_seed_and_info(model: Any) -> None:
    sent = request(seed=7, output_format=b"png")
    model.execute([sent])
    outputs = sent.final().outputs()
    assert outputs["generated_image"][0].startswith(b"\x89PNG")
    assert outputs["seed"].tolist() == [7]
    assert json.loads(outputs["info"][0])["num_inference_steps"] == 3


def test_base64_scribble_gets_a_base64_picture_and_previews_are_always_base64(model: Any) -> None:
    sent = request(image=TEXT, preview_every=1)
    model.execute([sent])
    sent.all_responses()
    assert base64.b64decode(sent.final().outputs()["generated_image"][0], validate=True).startswith(b"RIFF")
    preview = base64.b64decode(sent.responses[1].outputs()["preview"][0], validate=True)
    assert Image.open(io.BytesIO(preview)).size == (24, 24)


def test_decimal_numbers_are_read_as_the_client_wrote_them(model: Any) -> None:
    """FP32 has 0.7 as 0.69999999, which would make 6 of 10 steps."""
    sent = request(init_image=as_file(circle()), strength=0.7, num_inference_steps=10, guidance_scale=1.1)
    model.execute([sent])
    sent.all_responses()
    info = json.loads(sent.final().outputs()["info"][0])
    assert (info["strength"], info["guidance_scale"]) == (0.7, 1.1)
    assert sent.responses[1].outputs()["num_steps"].tolist() == [7]


def test_without_preview_every_no_preview_is_sent(model: Any) -> None:
    sent = request()
    model.execute([sent])
    assert not any("preview" in response.outputs() for response in sent.all_responses())


def test_queued_is_the_first_event(model: Any) -> None:
    """Even if the request fails before `queued` is sent."""
    sent = request(image=b"no base64!")
    is_failed, fail = threading.Event(), model.engine.output_processor.failed

    def note(state: RequestState, error: RequestError) -> None:
        fail(state, error)
        is_failed.set()

    def linger(response: Response) -> None:
        if not response.has_error():
            assert is_failed.wait(60)

    model.engine.output_processor.failed = note
    sent.before_sending = linger
    model.execute([sent])
    assert events(sent) == ["queued", "failed", "error"]
    assert sent.final().problem["code"] == "invalid_base64"


def test_terse_request_gets_queued_and_one_more_event(model: Any) -> None:
    sent = [
        request(is_terse=True, preview_every=1),
        request(is_terse=True, image=b"no base64!"),
        request(is_terse=True, num_inference_steps=0),  # fails before it is queued
    ]
    model.execute(sent)
    assert [events(one) for one in sent] == [["queued", "completed"], ["queued", "failed"], ["failed"]]
    info = json.loads(sent[1].final().outputs()["info"][0])
    assert (info["code"], info["field"], info["triton_code"]) == ("invalid_base64", "image", "INVALID_ARG")
    assert [one.num_finals for one in sent] == [1, 1, 1]


def test_waiting_requests_learn_their_position_and_terse_ones_only_the_first(
    make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_reporter, "INTERVAL_S", 0.0)
    model = make_model(max_rows=2)
    sent = [request(num_inference_steps=4, is_terse=index % 2 == 1) for index in range(6)]
    model.execute(sent)
    assert [events(one) for one in sent[1::2]] == [["queued", "completed"]] * 3
    last = [each.outputs() for each in sent[4].all_responses()]
    places = [outputs["position"][0] for outputs in last if outputs["event"][0] == b"queued"]
    assert len(places) > 1
    assert places == sorted(set(places), reverse=True)
    for one in sent:
        one.all_responses()
    late = request()
    model.execute([late])
    queued = late.all_responses()[0].outputs()
    assert (queued["position"].tolist(), queued["estimated_wait_s"].tolist()) == ([1], [0.0])
    assert queued["estimated_total_s"][0] > 0


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
def test_terse_and_ordinary_requests_get_the_same_triton_code(module: Any, code: str, triton_code: str) -> None:
    calling, client = request(), request()
    for sent, is_terse in ((calling, True), (client, False)):
        module.TritonListener(module.ResponseStream(sent), is_terse=is_terse).rejected(RequestError(code, "because"))
    info = json.loads(calling.final().outputs()["info"][0])
    assert info == {"code": code, "detail": "because", "triton_code": triton_code}
    assert client.final().error().code == triton_code
    assert client.final().problem == {"code": code, "detail": "because"}


def test_describe_responds_at_once_and_makes_no_picture(model: Any) -> None:
    sent = request(describe=True)
    model.execute([sent])
    assert events(sent) == ["described"]
    description = json.loads(sent.final().outputs()["info"][0])
    assert description["defaults"]["width"] == 128
    assert description["engine"]["device"] == "cpu"
    assert model.engine.metrics.snapshot() == {}


def test_describe_false_makes_a_picture(model: Any) -> None:
    sent = request(describe=False)
    model.execute([sent])
    assert events(sent)[-1] == "completed"


def test_all_inputs_are_optional(model: Any) -> None:
    sent = Request([])
    model.execute([sent])
    outputs = sent.final().outputs()
    assert base64.b64decode(outputs["generated_image"][0], validate=True)
    assert json.loads(outputs["info"][0])["num_inference_steps"] == 12


@pytest.mark.parametrize(
    ("values", "code", "field", "triton_code"),
    [
        ({"image": b"no base64!"}, "invalid_base64", "image", "INVALID_ARG"),
        ({"scheduler": b"magic"}, "unknown_scheduler", "scheduler", "INVALID_ARG"),
        ({"num_inference_steps": 0}, "out_of_range", "num_inference_steps", "INVALID_ARG"),
        ({"num_inference_steps": 10_000}, "out_of_range", "num_inference_steps", "INVALID_ARG"),
        ({"width": 4096, "height": 4096}, "unsupported_size", "width", "INVALID_ARG"),
        ({"timeout_s": 1e-6}, "deadline_exceeded", "timeout_s", "UNAVAILABLE"),
    ],
)
def test_rejected_request_has_the_reason_and_others_continue(
    model: Any, values: dict[str, Any], code: str, field: str, triton_code: str
) -> None:
    sent = [request(), request(**values), request(seed=2)]
    model.execute(sent)
    rejected = sent[1].final()
    assert (rejected.problem["code"], rejected.problem["field"]) == (code, field)
    assert rejected.error().code == triton_code
    # The error is an event too, because models that call this one by BLS do not get the error.
    assert rejected.problem == json.loads(sent[1].responses[-2].outputs()["info"][0])
    assert events(sent[1])[-2:] == ["failed", "error"]
    assert [events(one)[-1] for one in (sent[0], sent[2])] == ["completed", "completed"]
    assert [one.num_finals for one in sent] == [1, 1, 1]


def test_full_engine_rejects_requests_with_the_time_to_retry(make_model: Callable[..., Any]) -> None:
    model = make_model(max_requests=1)
    first, second = request(num_inference_steps=50), request()
    model.execute([first, second])
    assert events(second) == ["failed", "error"]
    assert second.final().error().code == "UNAVAILABLE"
    assert second.final().problem["code"] == "queue_full"
    assert second.final().problem["retry_after_s"] >= 1
    first.is_disconnected = True
    assert events(first)[0] == "queued"


def test_disconnect_of_a_client_cancels_its_request(model: Any) -> None:
    disconnected, stays = request(num_inference_steps=50), request(num_inference_steps=50, seed=2)
    disconnected.before_sending = lambda response: setattr(
        disconnected, "is_disconnected", len(disconnected.responses) >= 1
    )
    model.execute([disconnected, stays])
    assert disconnected.final().error().code == "CANCELLED"
    assert disconnected.final().problem["code"] == "cancelled"
    assert disconnected.num_finals == 1
    stays.is_disconnected = True
    stays.all_responses()
    assert model.engine.metrics.value("sdxl_engine_requests_total", how="cancelled") == 2


def test_response_that_cannot_be_sent_is_logged_and_affects_no_other_request(model: Any) -> None:
    disconnected, other = request(), request(seed=2)
    disconnected.fails_to_send = True
    model.execute([disconnected, other])
    assert events(other)[-1] == "completed"
    assert any("the client has disconnected" in line for line in LOG)


def test_unexpected_failure_is_logged_and_not_disclosed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> DiffusionRequest:
        raise ZeroDivisionError("secret path /srv/weights")

    monkeypatch.setattr(model.engine, "submit", fail)
    sent = request()
    model.execute([sent])
    assert sent.final().error().code == "INTERNAL"
    assert sent.final().problem["code"] == "generation_failed"
    assert "secret" not in sent.final().error().text
    assert "ZeroDivisionError: secret path" in LOG[-1]


def test_unreadable_request_fails_alone(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If `execute` raised, Triton would fail all requests of the call and free the response senders of the others."""

    def unreadable() -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    sent = [request(), request(seed=2)]
    monkeypatch.setattr(sent[0], "parameters", unreadable)
    model.execute(sent)
    assert sent[0].final().problem["code"] == "invalid_text"
    assert events(sent[1])[-1] == "completed"


def test_watcher_never_calls_is_cancelled_after_the_final_response(model: Any) -> None:
    """The final response is delayed while the watcher polls. After it, the watcher continues to poll."""
    sent, num_calls_after_final = request(num_inference_steps=1), 0
    is_cancelled = sent.is_cancelled

    def ask() -> bool:
        nonlocal num_calls_after_final
        num_calls_after_final += sent.num_finals
        return is_cancelled()

    sent.is_cancelled = ask  # type: ignore[method-assign]
    stays = request(num_inference_steps=50, seed=2)
    model.execute([sent, stays])
    sent.all_responses()
    stays.is_disconnected = True
    stays.all_responses()
    assert num_calls_after_final == 0


def test_unloading_responds_to_all_requests(make_model: Callable[..., Any]) -> None:
    model = make_model()
    sent = [request(num_inference_steps=50, seed=seed) for seed in range(3)]
    model.execute(sent)
    model.finalize()
    assert all(one.has_ended for one in sent)
    assert {one.final().problem["code"] for one in sent if one.final().has_error()} <= {"shutting_down"}
    model.finalize = lambda: None


def test_the_metrics_are_published_with_their_labels(model: Any) -> None:
    sent = request(num_inference_steps=2)
    model.execute([sent])
    sent.all_responses()
    model.watcher.stop()
    assert FAMILIES["sdxl_engine_steps_total"].metrics['{"size": "96x96"}'].value == 2
    assert FAMILIES["sdxl_engine_rows_total"].metrics['{"size": "96x96"}'].value == 4
    assert FAMILIES["sdxl_engine_requests_total"].metrics['{"how": "finished"}'].value == 1
    assert FAMILIES["sdxl_engine_requests"].metrics["{}"].value == 0
    assert FAMILIES["sdxl_engine_requests"].kind == "gauge"


def test_model_loads_with_the_parameters_of_its_config(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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
    sent, described = request(), request(describe=True)
    model.execute([sent, described])
    assert events(sent)[-1] == "completed"
    engine = json.loads(described.final().outputs()["info"][0])["engine"]
    assert (engine["policy"], engine["max_requests"], engine["max_rows"]["96x96"]) == ("shortest_remaining", 64, 4)
    model.finalize()


def test_module_imports_no_torch_before_it_is_initialized() -> None:
    """Triton also imports it in a process that only completes the config, and waits for that."""
    code = (
        "import sys, types;"
        "sys.modules['triton_python_backend_utils'] = types.ModuleType('triton_python_backend_utils');"
        "import model;"
        "sys.exit(', '.join({'torch', 'diffusers', 'transformers'} & sys.modules.keys()) or None)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=VERSION_FOLDER, check=False, capture_output=True)
    assert (ran.returncode, ran.stderr.strip()) == (0, b"")
