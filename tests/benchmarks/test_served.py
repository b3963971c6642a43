# SPDX-License-Identifier: Apache-2.0
"""The callers of the benchmark over HTTP, against a small server that speaks as the frontend does."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from benchmarks.engine.job import Job
from benchmarks.engine.outcome import Outcome, figures
from benchmarks.engine.served_engine import play

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def played(handler: Handler, *jobs: Job) -> list[Outcome]:
    application = web.Application()
    application.router.add_post("/picture", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        return await play(f"http://127.0.0.1:{port}/picture", jobs)
    finally:
        await runner.cleanup()


async def begun(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    await answer.write(b"event: queued\ndata: {}\n\n: ping\n\n")
    return answer


async def test_a_caller_sees_the_first_preview_and_then_the_picture() -> None:
    wishes = []

    async def paint(request: web.Request) -> web.StreamResponse:
        wishes.append(await request.json())
        answer = await begun(request)
        await answer.write(b'event: progress\ndata: {"step": 1}\n\nevent: progress\nda')
        await answer.write(b'ta: {"step": 2, "preview": "UklGR"}\n\n')
        await answer.write(b'event: completed\ndata: {"generated_image": "UklGR"}\n\n')
        return answer

    (outcome,) = await played(paint, Job(index=3, arrival=0.0, num_steps=7))
    assert outcome.first_preview is not None
    assert 0 < outcome.first_preview <= outcome.ended
    assert (wishes[0]["num_inference_steps"], wishes[0]["seed"]) == (7, 3)


async def test_who_leaves_closes_his_connection_and_others_stay() -> None:
    left = asyncio.Event()

    async def paint(request: web.Request) -> web.StreamResponse:
        wish, answer = await request.json(), await begun(request)
        if wish["seed"] == 0:
            try:
                while True:
                    await answer.write(b": ping\n\n")
                    await asyncio.sleep(0.01)
            except (ConnectionError, asyncio.CancelledError):
                left.set()
                raise
        await left.wait()
        await answer.write(b"event: completed\ndata: {}\n\n")
        return answer

    leaver, stayer = await played(
        paint, Job(index=0, arrival=0.0, num_steps=4, leaves_after=0.05), Job(index=1, arrival=0.0, num_steps=4)
    )
    assert leaver.ended < stayer.ended
    known = figures([leaver, stayer])
    assert (known.wasted_steps, known.wasted_steps_most) == (None, None)


@pytest.mark.parametrize("last", [b'event: error\ndata: {"code": "generation_failed"}\n\n', b""])
async def test_a_picture_that_does_not_come_ends_the_run(last: bytes) -> None:
    async def fail(request: web.Request) -> web.StreamResponse:
        answer = await begun(request)
        await answer.write(last)
        return answer

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="generation_failed|ended without a picture")):
        await played(fail, Job(index=0, arrival=0.0, num_steps=4))
