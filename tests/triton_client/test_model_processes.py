# SPDX-License-Identifier: Apache-2.0
"""When a model's process counts as dead, and when as alive again."""

import orjson
import pytest
from scripted_triton import Upstream, scripted_triton

from fastapi_triton.errors import ModelNotReadyError, TritonUnavailableError
from fastapi_triton.triton.failures import failure, stream_failure
from fastapi_triton.triton.http import HTTPTriton
from fastapi_triton.triton.model_processes import CODE, Counts, ModelProcesses, death

DIED = "Stub process 'echo_0' is not healthy."


def statistics(*versions: tuple[int, int]) -> bytes:
    return orjson.dumps(
        {
            "model_stats": [
                {"name": "echo", "inference_stats": {"success": {"count": good}, "fail": {"count": bad}}}
                for good, bad in versions
            ]
        }
    )


def test_tritons_words_for_it_are_understood_in_an_answer_and_in_a_stream() -> None:
    told = failure("echo", 500, orjson.dumps({"error": DIED}))
    assert (told.status, told.code) == (503, CODE)
    assert stream_failure("echo", DIED).code == CODE
    assert failure("echo", 500, orjson.dumps({"error": f"my {DIED}"})).code == "inference_failed"


@pytest.mark.parametrize(
    ("later", "is_dead"),
    [
        (Counts(3, 1), True),  # nothing has happened
        (Counts(3, 9), True),  # others have failed too
        (Counts(4, 1), False),  # somebody was answered
        (Counts(3, 0), False),  # it was loaded anew
        (Counts(0, 0), False),
    ],
)
def test_it_is_dead_until_triton_counts_otherwise(later: Counts, is_dead: bool) -> None:
    processes = ModelProcesses()
    processes.learn_from("echo", death("echo"))
    processes.compare("echo", Counts.of_statistics(statistics((2, 1), (1, 0))))
    assert processes.is_dead("echo")
    processes.compare("echo", later)
    assert processes.is_dead("echo") == is_dead
    assert not processes.is_dead("other")


def test_a_request_that_is_answered_says_so_too() -> None:
    processes = ModelProcesses()
    processes.learn_from("echo", death("echo"))
    processes.answered("echo")
    assert not processes.is_dead("echo")


async def test_a_triton_that_went_away_comes_back_with_living_processes() -> None:
    async def answer(upstream: Upstream) -> None:
        while True:
            head, _ = await upstream.request()
            if b"/infer" in head:
                await upstream.answer(orjson.dumps({"error": DIED}), status=b"500 Internal Server Error")
            else:
                await upstream.answer(statistics((0, 1)))

    async with scripted_triton() as triton, HTTPTriton(triton.url, heartbeat_s=3600) as client:
        triton.script = answer
        with pytest.raises(ModelNotReadyError):
            await client.infer("echo", {})
        with pytest.raises(ModelNotReadyError):
            await client.ready("echo")
        client.connections.breaker.open(TritonUnavailableError("away"))  # nothing is sent: it cannot be reached
        with pytest.raises(TritonUnavailableError):
            await client.ready("echo")
        client.connections.breaker.close()
        assert await client.ready("echo")
