# SPDX-License-Identifier: Apache-2.0
"""`model.py` on a stand-in for Triton's Python backend: who gets which answer, and when."""

import importlib.util
import json
import sys
import types
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from diffusion_engine.pipeline import ScribblePipeline
from diffusion_engine.worker import Worker
from drawings import VERSION_FOLDER, as_file, circle

INPUTS = ("prompt", "image", "conditioning_scale", "seed", "num_inference_steps", "output_format", "timeout_s")


@dataclass
class Tensor:
    name: str
    array: Any

    def as_numpy(self) -> Any:
        return self.array


class TritonError(Exception):
    INVALID_ARG, UNAVAILABLE, INTERNAL, CANCELLED = "INVALID_ARG", "UNAVAILABLE", "INTERNAL", "CANCELLED"

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.text, self.code = text, code


@dataclass
class Response:
    tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None

    def output(self, name: str) -> Any:
        return next(tensor.array for tensor in self.tensors if tensor.name == name)

    @property
    def problem(self) -> dict[str, Any]:
        assert self.error is not None
        problem: dict[str, Any] = json.loads(self.error.text)
        return problem


@dataclass
class Request:
    """Its own response sender; `log` is shared, so that the order of the answers shows."""

    tensors: dict[str, Tensor]
    log: list["Request"]
    responses: list[Response] = field(default_factory=list)
    cancelled: bool = False

    def get_response_sender(self) -> "Request":
        return self

    def is_cancelled(self) -> bool:
        return self.cancelled

    def send(self, response: Response, *, flags: int) -> None:
        assert flags == 1
        self.responses.append(response)
        self.log.append(self)


@pytest.fixture
def log_lines() -> list[str]:
    return []


@pytest.fixture
def model(pipeline: ScribblePipeline, log_lines: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    backend: Any = types.ModuleType("triton_python_backend_utils")
    backend.TritonError = TritonError
    backend.Tensor = Tensor
    backend.InferenceResponse = lambda tensors=None, error=None: Response(tensors or [], error)
    backend.TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
    backend.get_input_tensor_by_name = lambda request, name: request.tensors.get(name)
    backend.Logger = types.SimpleNamespace(log_error=log_lines.append)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    spec = importlib.util.spec_from_file_location("model_under_test", VERSION_FOLDER / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    triton_model = module.TritonPythonModel()
    triton_model.pipeline = pipeline
    triton_model.input_names = list(INPUTS)
    triton_model.worker = Worker(max_waiting=4)
    return triton_model


def serve(model: Any, *requests: "Request") -> list[None]:
    """Until all are answered."""
    returned: list[None] = model.execute(list(requests))
    model.worker.start()
    model.worker.stop()
    return returned


def request(log: list[Request] | None = None, **columns: list[Any]) -> Request:
    """One row by default; every value is a column of as many rows as `prompt` has."""
    rows = len(columns.get("prompt", [b""]))
    defaults = {
        "prompt": [b"a red circle on a blue background"] * rows,
        "image": [as_file(circle())] * rows,
        "conditioning_scale": [1.0] * rows,
        "seed": [1] * rows,
        "num_inference_steps": [2] * rows,
    }
    datatypes = {"conditioning_scale": np.float32, "seed": np.int64, "num_inference_steps": np.int32}
    tensors = {
        name: Tensor(name, np.array([[value] for value in column], dtype=datatypes.get(name, np.object_)))
        for name, column in {**defaults, **columns}.items()
        if column
    }
    return Request(tensors, [] if log is None else log)


def test_every_row_is_served_with_its_own_parameters(model: Any) -> None:
    asked = request(
        prompt=[b"a red circle", b"a blue star", b""],
        seed=[7, -1, 9],
        num_inference_steps=[1, 2, 3],
        output_format=[b"png", b"jpeg", b"webp"],
    )
    assert serve(model, asked) == [None]
    (answer,) = asked.responses
    pictures = answer.output("generated_image")
    assert pictures.shape == answer.output("seed").shape == answer.output("info").shape == (3, 1)
    assert [row[0][:4] for row in pictures] == [b"\x89PNG", b"\xff\xd8\xff\xe0", b"RIFF"]
    assert answer.output("seed").dtype == np.int64
    assert answer.output("seed")[[0, 2], 0].tolist() == [7, 9]
    infos = [json.loads(row[0]) for row in answer.output("info")]
    assert [info["num_inference_steps"] for info in infos] == [1, 2, 3]
    assert infos[1]["seed"] == answer.output("seed")[1, 0] >= 0


def test_a_row_gives_the_same_picture_alone_and_among_others(model: Any) -> None:
    alone, among = request(seed=[7]), request(prompt=[b"", b"a red circle on a blue background"], seed=[3, 7])
    serve(model, alone, among)
    assert alone.responses[0].output("generated_image")[0, 0] == among.responses[0].output("generated_image")[1, 0]


def test_one_bad_image_fails_its_own_request_only(model: Any) -> None:
    log: list[Request] = []
    asked = [request(log), request(log, image=[b"no base64!"]), request(log)]
    assert serve(model, *asked) == [None] * 3
    assert log == [asked[1], asked[0], asked[2]]  # the refusal waits for nobody
    assert [len(one.responses) for one in asked] == [1, 1, 1]
    assert asked[1].responses[0].error is not None
    assert asked[1].responses[0].error.code == "INVALID_ARG"
    assert asked[1].responses[0].problem["code"] == "invalid_base64"
    assert asked[1].responses[0].problem["field"] == "image"
    assert asked[0].responses[0].error is asked[2].responses[0].error is None


def test_a_bad_row_is_found_before_any_picture_is_made(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScribblePipeline, "denoise", None)
    asked = request(prompt=[b"", b""], image=[as_file(circle()), b"\x00\x01"])
    serve(model, asked)
    assert asked.responses[0].problem["code"] == "not_an_image"
    assert asked.responses[0].problem["detail"].startswith("row 1 of 0 to 1: ")


def test_answers_go_out_one_by_one(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Request] = []
    answered_before: list[int] = []
    generate = ScribblePipeline.generate

    def count(*arguments: Any) -> Any:
        answered_before.append(len(log))
        return generate(*arguments)

    monkeypatch.setattr(ScribblePipeline, "generate", count)
    serve(model, request(log), request(log), request(log))
    assert answered_before == [0, 1, 2]


def test_an_unexpected_failure_is_logged_and_not_told(
    model: Any, log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret path /srv/weights")

    monkeypatch.setattr(ScribblePipeline, "denoise", fail)
    asked = request()
    serve(model, asked)
    error = asked.responses[0].error
    assert error is not None
    assert error.code == "INTERNAL"
    assert asked.responses[0].problem["code"] == "generation_failed"
    assert "secret" not in error.text
    assert "ZeroDivisionError: secret path" in log_lines[0]


def test_a_missing_required_tensor_is_named(model: Any) -> None:
    asked = request(image=[])
    serve(model, asked)
    assert asked.responses[0].problem == {
        "code": "missing_input",
        "detail": "image is required",
        "field": "image",
    }


def test_the_deadline_counts_from_the_arrival_of_the_batch(model: Any) -> None:
    asked = [request(num_inference_steps=[20]), request(timeout_s=[0.01])]
    serve(model, *asked)
    late = asked[1].responses[0]
    assert late.problem["code"] == "deadline_exceeded"
    assert late.error is not None
    assert late.error.code == "UNAVAILABLE"


def test_a_caller_who_left_costs_nothing(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScribblePipeline, "denoise", None)
    asked = request()
    asked.cancelled = True
    serve(model, asked)
    assert asked.responses[0].error is not None
    assert asked.responses[0].error.code == "CANCELLED"


def test_it_loads_from_the_model_config(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDXL_DEVICE", "cpu")
    config = {"input": [{"name": name} for name in INPUTS], "parameters": {"dtype": {"string_value": "float32"}}}
    arguments = {
        "model_config": json.dumps(config),
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
    }
    loaded = type(model)()
    loaded.initialize(arguments)
    asked = request()
    loaded.execute([asked])
    loaded.finalize()
    assert asked.responses[0].error is None


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(model: Any) -> None:
    waiting, refused = [request() for _ in range(4)], request()
    model.execute([*waiting, refused])
    assert refused.responses[0].error is not None
    assert refused.responses[0].error.code == "UNAVAILABLE"
    assert refused.responses[0].problem["code"] == "overloaded"
    assert refused.responses[0].problem["retry_after_s"] >= 1
    model.worker.start()
    model.worker.stop()
    assert all(one.responses[0].error is None for one in waiting)
