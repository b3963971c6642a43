# SPDX-License-Identifier: Apache-2.0
"""Detection of a dead stub process and of its return, for Triton 2.51 and the current Triton."""

from asyncio import get_running_loop
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from fastapi_triton.core.errors import FastAPITritonError, InferenceError, ModelNotReadyError, TritonUnavailableError
from fastapi_triton.core.slot import Slot, current_slot
from fastapi_triton.triton import process_check
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.error_mapping import SuspectedDeathError, failure, stream_failure
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.model_health import CODE, Counts, ModelProcesses
from fastapi_triton.triton.tensor import Tensor
from support.triton_with_processes import CURRENT, DIED, OLD, TritonWithProcesses, triton_with_processes

TEXT = {"text": Tensor(BY_WIRE["BYTES"], np.array([b"hi"], np.object_))}


def statistics(*versions: tuple[int, int, int]) -> bytes:
    return orjson.dumps(
        {
            "model_stats": [
                {
                    "name": "echo",
                    "execution_count": executed,
                    "inference_stats": {"success": {"count": good}, "fail": {"count": bad}},
                }
                for good, bad, executed in versions
            ]
        }
    )


@pytest.mark.parametrize("text", [DIED, "Stub process 'echo_0' is not healthy."])
def test_the_texts_of_triton_for_a_dead_process_raise_a_suspicion(text: str) -> None:
    assert isinstance(failure("echo", 500, orjson.dumps({"error": text})), SuspectedDeathError)
    assert isinstance(stream_failure("echo", text), SuspectedDeathError)


@pytest.mark.parametrize(
    "text",
    [f"my {DIED}", f"{DIED} Really.", "Stub process 'other_0_0' is not healthy.", "Stub process is not healthy."],
)
def test_similar_texts_raise_no_suspicion(text: str) -> None:
    assert type(failure("echo", 500, orjson.dumps({"error": text}))) is InferenceError
    assert type(stream_failure("echo", text)) is InferenceError


@pytest.mark.parametrize(
    ("later", "is_dead"),
    [
        (Counts(3, 1, 4), True),  # nothing has happened
        (Counts(3, 9, 4), True),  # other requests have failed too
        (Counts(4, 1, 5), False),  # a request has succeeded
        (Counts(3, 2, 5), False),  # the model has run, and its code has failed
        (Counts(3, 0, 4), False),  # it was loaded again
        (Counts(0, 0, 0), False),
    ],
)
def test_a_model_is_dead_until_the_counts_of_triton_show_that_it_runs(later: Counts, is_dead: bool) -> None:
    processes = ModelProcesses()
    processes.died("echo", Counts.of_statistics(statistics((2, 1, 3), (1, 0, 1))))
    processes.counted("echo", later, 0.0)
    assert processes.is_dead("echo") == is_dead
    assert not processes.is_dead("other")


def test_a_reload_is_detected_although_the_death_was_counted_late() -> None:
    processes = ModelProcesses()
    processes.died("echo", Counts(0, 0, 0))
    processes.counted("echo", Counts(0, 1, 0), 0.0)
    processes.counted("echo", Counts(0, 0, 0), 0.0)
    assert not processes.is_dead("echo")


def test_a_death_that_triton_admits_outlasts_a_response_of_another_instance() -> None:
    processes = ModelProcesses()
    processes.died("echo", is_admitted=True)
    processes.answered("echo")
    assert processes.is_dead("echo")
    processes.ready("echo")
    assert not processes.is_dead("echo")


@pytest.fixture(params=[OLD, CURRENT])
async def triton(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TritonWithProcesses]:
    monkeypatch.setattr(process_check, "SETTLE_S", 0.0)
    async with triton_with_processes(request.param) as triton:
        yield triton


@pytest.fixture
async def client(triton: TritonWithProcesses) -> AsyncIterator[HTTPTriton]:
    async with HTTPTriton(triton.url, heartbeat_s=3600) as client:
        yield client


async def error_of(client: HTTPTriton) -> FastAPITritonError | None:
    current_slot.set(Slot(1, since=0.0, free=lambda _: None))  # as in every request of a client
    try:
        await client.infer("echo", TEXT)
    except FastAPITritonError as error:
        return error
    return None


async def code_of(client: HTTPTriton) -> str:
    error = await error_of(client)
    return "ok" if error is None else error.code


async def readiness(client: HTTPTriton) -> str:
    try:
        return "ready" if await client.ready("echo") else "unready"
    except FastAPITritonError as error:
        return error.code


async def until(client: HTTPTriton, state: str) -> None:
    while await readiness(client) != state:
        await client.check_processes()


async def known(client: HTTPTriton, triton: TritonWithProcesses) -> None:
    """Wait until the client knows that the model is ready, and its current statistics."""
    assert await readiness(client) == "ready"
    counts = Counts(triton.answered, triton.failed, triton.executed)
    while client.processes.counts("echo") != counts:
        await client.check_processes()


async def test_the_first_request_after_a_death_detects_it(client: HTTPTriton, triton: TritonWithProcesses) -> None:
    assert await readiness(client) == "ready"
    assert await code_of(client) == "ok"
    await known(client, triton)
    triton.die()
    assert await code_of(client) == CODE
    assert await readiness(client) == CODE


async def test_a_death_reported_during_the_check_decides_it(
    client: HTTPTriton, triton: TritonWithProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor of the embedded Triton reports a death, as late as Triton itself."""

    pauses: list[float] = []

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 2:
            client.processes.died("echo")

    monkeypatch.setattr(process_check, "asyncio", SimpleNamespace(sleep=sleep, get_running_loop=get_running_loop))
    await known(client, triton)
    triton.die()
    assert await code_of(client) == CODE


async def test_a_reloaded_model_is_ready_without_a_request(client: HTTPTriton, triton: TritonWithProcesses) -> None:
    for _ in range(3):
        await known(client, triton)
        triton.die()
        assert await code_of(client) == CODE
        triton.load()  # before any readiness check
        await until(client, "ready")
        assert await code_of(client) == "ok"


async def test_a_slow_reload_is_detected_too(client: HTTPTriton, triton: TritonWithProcesses) -> None:
    await known(client, triton)
    triton.die()
    assert await code_of(client) == CODE
    assert await readiness(client) == CODE
    triton.is_loaded = False
    assert await readiness(client) == "unready"
    triton.load()
    assert await readiness(client) == "ready"


@pytest.mark.parametrize("is_batching", [False, True])
async def test_a_death_soon_after_a_request_is_detected_by_the_second_request(
    triton: TritonWithProcesses, *, is_batching: bool
) -> None:
    triton.is_batching = is_batching
    async with HTTPTriton(triton.url, heartbeat_s=3600) as client:
        assert await readiness(client) == "ready"
        assert await code_of(client) == "ok"
        triton.die()
        codes = [await code_of(client), await code_of(client)]
        is_late = is_batching and triton.version == OLD
        assert codes == (["inference_failed", CODE] if is_late else [CODE, CODE])
        assert await readiness(client) == CODE


@pytest.mark.parametrize("is_batching", [False, True])
async def test_a_model_that_raises_the_text_of_triton_is_not_dead(
    client: HTTPTriton, triton: TritonWithProcesses, *, is_batching: bool
) -> None:
    triton.is_batching = is_batching
    await known(client, triton)
    triton.model_says = DIED
    for _ in range(5):
        assert await code_of(client) == "inference_failed"
        assert await readiness(client) == "ready"
        async with aclosing(client.stream("echo", TEXT)) as responses:
            with pytest.raises(InferenceError):
                await anext(responses)
        assert await readiness(client) == "ready"


async def test_a_death_ends_running_streams(client: HTTPTriton, triton: TritonWithProcesses) -> None:
    assert await readiness(client) == "ready"
    async with aclosing(client.stream("echo", TEXT)) as first, aclosing(client.stream("echo", TEXT)) as second:
        assert (await anext(first))["text"].item() == b"begun"
        assert (await anext(second))["text"].item() == b"begun"
        await known(client, triton)
        triton.die()
        if triton.version == OLD:  # a request has to detect it
            assert await code_of(client) == CODE
        await client.check_processes()
        for responses in (first, second):
            with pytest.raises(ModelNotReadyError) as raised:
                await anext(responses)
            assert raised.value.code == CODE
    triton.load()
    await until(client, "ready")


async def test_a_death_ends_requests_to_a_model_that_calls_the_dead_one(
    client: HTTPTriton, triton: TritonWithProcesses
) -> None:
    triton.parameters = {"stream_model": {"string_value": "echo"}}
    async with aclosing(client.stream("caller", TEXT)) as responses:
        assert (await anext(responses))["text"].item() == b"begun"
        triton.die()
        if triton.version == OLD:  # the embedded Triton's monitor detects it
            client.processes.died("echo")
        await client.check_processes()
        with pytest.raises(ModelNotReadyError, match="ran the model echo has died"):
            await anext(responses)
    assert await client.ready("caller")


async def test_a_loading_model_is_not_dead(client: HTTPTriton, triton: TritonWithProcesses) -> None:
    triton.is_loaded = False
    assert await readiness(client) == "unready"
    triton.load()
    assert await readiness(client) == "ready"


async def test_after_an_outage_of_triton_its_processes_count_as_alive(
    client: HTTPTriton, triton: TritonWithProcesses
) -> None:
    await known(client, triton)
    triton.die()
    assert await code_of(client) == CODE
    client.pool.breaker.open(TritonUnavailableError("away"))  # sends nothing: Triton is unreachable
    with pytest.raises(TritonUnavailableError):
        await client.ready("echo")
    triton.is_dead = False  # the statistics stay as they are
    client.pool.breaker.close()
    assert await client.ready("echo")
