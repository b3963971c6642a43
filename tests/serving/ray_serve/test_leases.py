# SPDX-License-Identifier: Apache-2.0
"""Many Tritons as one, without Ray: only requests that have not run go to another Triton; every lease ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from fastapi_triton import Settings
from fastapi_triton.core.context import current_deadline
from fastapi_triton.core.errors import DeadlineExceededError, OverloadedError, TritonUnavailableError
from fastapi_triton.core.slot import Slot, current_slot
from fastapi_triton.serving.ray_serve import client as leased
from fastapi_triton.serving.ray_serve.client import ClusterTriton
from fastapi_triton.serving.ray_serve.cold_start import ASSUMED_S, LEAST_S, ColdStart
from fastapi_triton.triton.client import Extensions
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.tensor import Tensor
from support.scripted_triton import ScriptedTriton, Upstream, scripted_triton
from support.serving import free_port

INPUTS = {"text": Tensor.of_one(BY_WIRE["BYTES"], b"a", (1,))}
ANSWER = b'{"model_name":"echo","outputs":[]}'


@dataclass
class FakeLease:
    url: str | None
    is_ended: bool = False

    async def granted(self) -> str:
        if self.url is None:
            await asyncio.Event().wait()
        return str(self.url)

    def end(self) -> None:
        self.is_ended = True


@dataclass
class FakeServe:
    """Returns leases of these URLs, one after the other. A lease of None is never granted."""

    urls: Iterator[str | None]
    leases: list[FakeLease] = field(default_factory=list)

    def __call__(self) -> FakeLease:
        self.leases.append(FakeLease(next(self.urls)))
        return self.leases[-1]

    @property
    def num_held(self) -> int:
        return sum(not lease.is_ended for lease in self.leases)


def cluster(*urls: str | None, may_sleep: bool = False) -> tuple[ClusterTriton, FakeServe]:
    serve = FakeServe(iter(urls))
    settings = Settings(request_timeout_s=30, connect_timeout_s=1)
    return ClusterTriton(serve, settings, may_sleep=may_sleep), serve


def nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
async def triton() -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as scripted:

        async def answer(upstream: Upstream) -> None:
            while True:
                scripted.requests.append(await upstream.request())
                await upstream.respond(ANSWER, headers=b"Inference-Header-Content-Length: %d\r\n" % len(ANSWER))

        scripted.script = answer
        yield scripted


async def test_a_request_that_reached_no_triton_goes_to_another(triton: ScriptedTriton) -> None:
    client, serve = cluster(nobody(), triton.url)
    async with client:
        assert await client.infer("echo", INPUTS, extensions=Extensions({"priority": 2})) == {}
    ((_, body),) = triton.requests
    assert b'"priority":2' in body
    assert len(serve.leases) == 2
    assert serve.num_held == 0


def test_a_cluster_does_not_keep_the_requests_of_a_sequence_together() -> None:
    client, _ = cluster()
    assert not client.keeps_sequences


async def test_a_request_fails_after_some_attempts_and_the_error_says_that_nothing_was_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leased, "MAX_ATTEMPTS", 3)
    monkeypatch.setattr(leased, "FIRST_BACKOFF_S", 0)
    client, serve = cluster(*(nobody() for _ in range(9)))
    async with client:
        with pytest.raises(TritonUnavailableError, match="nothing was run"):
            await client.infer("echo", INPUTS)
    assert (len(serve.leases), serve.num_held) == (3, 0)


async def test_a_request_that_may_have_run_is_never_sent_again(triton: ScriptedTriton) -> None:
    async with scripted_triton() as dying:

        async def die(upstream: Upstream) -> None:
            dying.requests.append(await upstream.request())

        dying.script = die
        client, serve = cluster(dying.url, triton.url)
        async with client:
            with pytest.raises(TritonUnavailableError) as lost:
                await client.infer("echo", INPUTS)
    assert lost.value.code == "triton_connection_lost"
    assert (len(dying.requests), len(triton.requests), len(serve.leases), serve.num_held) == (1, 0, 1, 0)


async def test_a_lease_lasts_as_long_as_the_request(triton: ScriptedTriton) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def wait(upstream: Upstream) -> None:
        await upstream.request()
        arrived.set()
        await go.wait()
        await upstream.respond(ANSWER, headers=b"Inference-Header-Content-Length: %d\r\n" % len(ANSWER))

    triton.script = wait
    client, serve = cluster(triton.url)
    async with client:
        task = asyncio.create_task(client.infer("echo", INPUTS))
        await arrived.wait()
        assert serve.num_held == 1
        go.set()
        await task
    assert serve.num_held == 0


async def test_a_disconnect_ends_the_lease_and_the_connection(triton: ScriptedTriton) -> None:
    arrived, closed = asyncio.Event(), asyncio.Event()

    async def wait(upstream: Upstream) -> None:
        await upstream.request()
        arrived.set()
        await upstream.closed()
        closed.set()

    triton.script = wait
    client, serve = cluster(triton.url)
    async with client:
        task = asyncio.create_task(client.infer("echo", INPUTS))
        await arrived.wait()
        task.cancel()
        await closed.wait()
        await asyncio.wait([task])
        assert serve.num_held == 0


async def test_inference_that_triton_continues_after_a_disconnect_keeps_lease_and_slot(triton: ScriptedTriton) -> None:
    arrived, go, is_free = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def wait(upstream: Upstream) -> None:
        await upstream.request()
        arrived.set()
        await go.wait()
        await upstream.respond(ANSWER, headers=b"Inference-Header-Content-Length: %d\r\n" % len(ANSWER))
        await upstream.closed()

    async def ask() -> None:
        with Slot(1, since=0.0, free=lambda _: is_free.set()) as slot:
            current_slot.set(slot)
            await client.infer("echo", INPUTS)

    triton.script = wait
    client, serve = cluster(triton.url)
    async with client:
        task = asyncio.create_task(ask())
        await arrived.wait()
        task.cancel()
        await asyncio.wait([task])
        # The client has disconnected, but Triton still works. So for Ray it is still busy.
        assert serve.num_held == 1
        assert not is_free.is_set()
        go.set()
        await is_free.wait()
    assert serve.num_held == 0


async def test_a_request_after_its_deadline_takes_no_second_lease(triton: ScriptedTriton) -> None:
    client, serve = cluster(triton.url)
    async with client:
        current_deadline.set(asyncio.get_running_loop().time() - 1)
        with pytest.raises(DeadlineExceededError, match="nothing was run"):
            await client.infer("echo", INPUTS)
    assert serve.num_held == 0
    assert triton.requests == []


async def test_no_attempt_is_made_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leased, "FIRST_BACKOFF_S", 3600)
    monkeypatch.setattr(leased, "LONGEST_BACKOFF_S", 3600)
    client, serve = cluster(nobody(), nobody())
    async with client:
        current_deadline.set(asyncio.get_running_loop().time() + 60)
        with pytest.raises(TritonUnavailableError, match="nothing was run"):
            await client.infer("echo", INPUTS)
    assert (len(serve.leases), serve.num_held) == (1, 0)


async def test_full_tritons_are_overload_and_no_triton_is_unavailable(triton: ScriptedTriton) -> None:
    client, serve = cluster(None, triton.url, None)
    async with client:
        current_deadline.set(asyncio.get_running_loop().time() + 0.05)
        with pytest.raises(TritonUnavailableError, match="No Triton of the cluster is ready"):
            await client.infer("echo", INPUTS)
        current_deadline.set(None)
        await client.infer("echo", INPUTS)
        current_deadline.set(asyncio.get_running_loop().time() + 0.05)
        with pytest.raises(OverloadedError) as refused:
            await client.infer("echo", INPUTS)
    assert refused.value.retry_after_s is not None
    assert serve.num_held == 0


async def test_queries_go_to_a_known_triton_without_a_lease(triton: ScriptedTriton) -> None:
    client, serve = cluster(triton.url)
    async with client:
        await client.infer("echo", INPUTS)
        assert await client.ready("echo")
    assert len(serve.leases) == 1


async def test_the_cluster_is_up_while_one_triton_is_and_drops_the_others(triton: ScriptedTriton) -> None:
    client, serve = cluster(triton.url, triton.url)
    async with client:
        assert not client.is_up  # no Triton is known yet
        await client.infer("echo", INPUTS)
        assert client.is_up
        (known,) = client._replicas.values()
        known.client.pool.breaker.open(TritonUnavailableError("It cannot be reached; nothing was run."))
        assert not client.is_up
        assert client.num_open_breakers == 1
        # The next query takes a lease of another Triton, and drops the one that cannot be reached.
        assert await client.ready("echo")
        assert client.is_up
        assert client.num_open_breakers == 0
        assert known not in client._replicas.values()
    assert (len(serve.leases), serve.num_held) == (2, 0)


async def test_a_stream_that_reached_no_triton_goes_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leased, "MAX_ATTEMPTS", 3)
    monkeypatch.setattr(leased, "FIRST_BACKOFF_S", 0)
    client, serve = cluster(*(nobody() for _ in range(3)))
    async with client:
        with pytest.raises(TritonUnavailableError):
            async with aclosing(client.stream("count", {})) as stream:
                await anext(stream)
    assert (len(serve.leases), serve.num_held) == (3, 0)


CONFIG = b'{"name":"echo","max_batch_size":0,"input":[],"output":[]}'


async def config_of(triton: ScriptedTriton, client: ClusterTriton) -> None:
    """Read the config of the only Triton, which then cannot be reached."""

    async def answer(upstream: Upstream) -> None:
        while True:
            await upstream.request()
            await upstream.respond(CONFIG)

    triton.script = answer
    assert (await client.config("echo")).name == "echo"
    (known,) = client._replicas.values()
    known.client.pool.breaker.open(TritonUnavailableError("It cannot be reached; nothing was run."))


async def test_queries_start_no_triton_and_return_the_last_known_response(
    triton: ScriptedTriton,
) -> None:
    client, serve = cluster(triton.url, None, may_sleep=True)
    async with client:
        assert not client.is_asleep  # no Triton was ever known: the first query starts one
        await config_of(triton, client)
        assert client.is_asleep
        assert await client.ready("echo")
        assert (await client.config("echo")).name == "echo"
        with pytest.raises(TritonUnavailableError, match="No Triton of the cluster is running") as unknown:
            await client.config("another")
        assert unknown.value.code == "cluster_not_ready"
        assert len(serve.leases) == 1
        # A request does take a lease. If its timeout is too short, the error has `Retry-After`.
        current_deadline.set(asyncio.get_running_loop().time() + 0.05)
        with pytest.raises(TritonUnavailableError, match="By earlier starts") as refused:
            await client.infer("echo", INPUTS)
        assert refused.value.code == "cluster_not_ready"
    assert (len(serve.leases), serve.num_held) == (2, 0)


async def test_without_may_sleep_a_cluster_without_tritons_is_not_asleep(triton: ScriptedTriton) -> None:
    client, serve = cluster(triton.url, triton.url)
    async with client:
        await config_of(triton, client)
        assert not client.is_asleep
        assert (await client.config("echo")).name == "echo"
    assert (len(serve.leases), serve.num_held) == (2, 0)


def test_a_cold_start_is_estimated_from_the_last_one() -> None:
    now = 100.0
    start = ColdStart(lambda: now)
    assert start.left_s == ASSUMED_S
    start.requested()
    now = 105.0
    start.requested()  # a further request during the same start
    assert start.left_s == ASSUMED_S - 5
    now = 112.0
    start.started()
    now = 500.0
    start.requested()
    now = 508.0
    assert start.left_s == 12 - 8
    now = 520.0
    assert start.left_s == LEAST_S


def test_old_requests_do_not_count_in_the_estimate_of_a_start() -> None:
    now = 100.0
    start = ColdStart(lambda: now)
    start.requested()  # a Triton then started and ended, unnoticed by this frontend
    now = 4000.0
    start.requested()
    now = 4009.0
    start.started()
    assert start.left_s == 9
