# SPDX-License-Identifier: Apache-2.0
"""When a model's process counts as dead, and when as alive again."""

import orjson
import pytest

from fastapi_triton.triton.failures import failure, stream_failure
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
