# SPDX-License-Identifier: Apache-2.0
"""Triton frees the target of a response sender with the final response. Nothing may use it during or after that."""

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from triton_backend import FINAL, LOG, PATIENCE_S, Response, TritonModelException, backend


class Sender:
    """Fails the test at each use during or after the final send, where Triton would crash. `inside` runs in a call."""

    def __init__(self) -> None:
        self.inside: Callable[[str], None] = lambda _: None
        self.calls: list[str] = []
        self.fails_to_send = False
        self._is_freed = False
        self._num_inside = 0
        self._lock = threading.Lock()

    def send(self, response: Any, *, flags: int = 0) -> None:
        self._use("final" if flags == FINAL else "send")
        if self.fails_to_send:
            raise TritonModelException("the client has disconnected")

    def is_cancelled(self) -> bool:
        self._use("ask")
        return True

    def _use(self, call: str) -> None:
        with self._lock:
            assert not self._is_freed, f"{call} reads freed memory"
            assert not self._num_inside, f"{call} overlaps another call"
            self._num_inside += 1
            self._is_freed = call == "final"
        self.inside(call)
        with self._lock:
            self._num_inside -= 1
            self.calls.append(call)


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
def responses(sender: Sender) -> Any:
    backend()
    LOG.clear()
    return importlib.import_module("triton_adapter.response_stream").ResponseStream(sender)


def test_sender_is_not_used_after_the_final_response(sender: Sender, responses: Any) -> None:
    responses.send(Response())
    assert responses.is_cancelled()
    responses.send(Response(), is_final=True)
    assert not responses.is_cancelled()
    assert sender.calls == ["send", "ask", "final"]


def test_response_after_the_final_one_is_logged_and_dropped(sender: Sender, responses: Any) -> None:
    responses.send(Response(), is_final=True)
    responses.send(Response())
    responses.send(Response(), is_final=True)
    assert sender.calls == ["final"]
    assert LOG == ["a response after the final one was dropped"] * 2


def test_final_response_that_cannot_be_sent_is_final_too(sender: Sender, responses: Any) -> None:
    sender.fails_to_send = True
    responses.send(Response(), is_final=True)
    assert not responses.is_cancelled()
    assert sender.calls == ["final"]
    assert LOG == ["a response could not be sent: the client has disconnected"]


def test_sender_is_freed_with_the_final_response(responses: Any) -> None:
    responses.send(Response(), is_final=True)
    assert not any(isinstance(each, Sender) for each in vars(responses).values())


@pytest.mark.parametrize("first", ["ask", "final"])
def test_is_cancelled_and_the_final_response_wait_for_each_other(sender: Sender, responses: Any, first: str) -> None:
    """One call is held inside Triton while another thread starts the other call, which must wait."""
    is_inside, goes_on, other_runs = threading.Event(), threading.Event(), threading.Event()

    def hold(call: str) -> None:
        if call == first:
            is_inside.set()
            assert goes_on.wait(PATIENCE_S)

    def ask() -> bool:
        return bool(responses.is_cancelled())

    def finish() -> None:
        responses.send(Response(), is_final=True)

    def begin(work: Callable[[], Any]) -> Any:
        other_runs.set()
        return work()

    sender.inside = hold
    works: dict[str, Callable[[], Any]] = {"ask": ask, "final": finish}
    other = "final" if first == "ask" else "ask"
    with ThreadPoolExecutor(2) as threads:
        held: Future[Any] = threads.submit(works[first])
        assert is_inside.wait(PATIENCE_S)
        waits: Future[Any] = threads.submit(begin, works[other])
        assert other_runs.wait(PATIENCE_S)
        # The other thread cannot be inside: the first one has the lock.
        assert responses._lock.locked()
        assert sender.calls == []
        goes_on.set()
        held.result(PATIENCE_S)
        is_cancelled = waits.result(PATIENCE_S)
    assert sender.calls == (["ask", "final"] if first == "ask" else ["final"])
    assert is_cancelled is (None if first == "ask" else False)


def test_calls_of_many_threads_never_overlap_or_follow_the_final_response(responses: Any, sender: Sender) -> None:
    together = threading.Barrier(8)

    def ask() -> None:
        together.wait(PATIENCE_S)
        while responses.is_cancelled():
            responses.send(Response())

    def finish() -> None:
        together.wait(PATIENCE_S)
        responses.send(Response(), is_final=True)

    with ThreadPoolExecutor(8) as threads:
        runs = [threads.submit(ask) for _ in range(7)] + [threads.submit(finish)]
        for run in runs:
            run.result(PATIENCE_S)
    assert sender.calls.count("final") == 1
    assert sender.calls[-1] == "final"
