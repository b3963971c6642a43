# SPDX-License-Identifier: Apache-2.0
"""The engine's `model.py`: requests that are rejected, fail or are cancelled, and those beside them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from diffusion_engine.request import DiffusionRequest
from stream_model import events, request
from triton_backend import LOG


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
