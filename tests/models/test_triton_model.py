# SPDX-License-Identifier: Apache-2.0
"""The engine's `model.py` with a stand-in for Triton's Python backend: the responses and their order."""

import base64
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from diffusion_engine import queue_reporter
from diffusion_engine.errors import RequestError
from diffusion_engine.request_state import RequestState
from drawings import as_file, circle
from PIL import Image
from stream_model import OUTPUTS, events, request
from triton_backend import Request, Response

TEXT = base64.b64encode(as_file(circle()))


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
    assert json.loads(outputs["info"][0])["num_inference_steps"] == 6
