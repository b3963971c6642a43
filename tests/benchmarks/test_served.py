# SPDX-License-Identifier: Apache-2.0
"""The benchmark's clients over HTTP, against a small server that responds like the frontend."""

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
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"event: queued\ndata: {}\n\n: ping\n\n")
    return response


async def test_client_receives_first_preview_and_then_picture() -> None:
    bodies = []

    async def paint(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        response = await begun(request)
        await response.write(b'event: progress\ndata: {"step": 1}\n\nevent: progress\nda')
        await response.write(b'ta: {"step": 2, "preview": "UklGR"}\n\n')
        await response.write(b'event: completed\ndata: {"generated_image": "UklGR"}\n\n')
        return response

    (outcome,) = await played(paint, Job(index=3, arrival=0.0, num_steps=7))
    assert outcome.first_preview is not None
    assert 0 < outcome.first_preview <= outcome.ended
    assert (bodies[0]["num_inference_steps"], bodies[0]["seed"]) == (7, 3)


async def test_disconnecting_client_closes_its_connection_and_others_stay() -> None:
    disconnected_event = asyncio.Event()

    async def paint(request: web.Request) -> web.StreamResponse:
        body, response = await request.json(), await begun(request)
        if body["seed"] == 0:
            try:
                while True:
                    await response.write(b": ping\n\n")
                    await asyncio.sleep(0.01)
            except (ConnectionError, asyncio.CancelledError):
                disconnected_event.set()
                raise
        await disconnected_event.wait()
        await response.write(b"event: completed\ndata: {}\n\n")
        return response

    disconnected, stayed = await played(
        paint, Job(index=0, arrival=0.0, num_steps=4, leaves_after=0.05), Job(index=1, arrival=0.0, num_steps=4)
    )
    assert disconnected.ended < stayed.ended
    known = figures([disconnected, stayed])
    assert (known.wasted_steps, known.wasted_steps_most) == (None, None)


@pytest.mark.parametrize("last", [b'event: error\ndata: {"code": "generation_failed"}\n\n', b""])
async def test_missing_picture_fails_run(last: bytes) -> None:
    async def fail(request: web.Request) -> web.StreamResponse:
        response = await begun(request)
        await response.write(last)
        return response

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="generation_failed|ended without a picture")):
        await played(fail, Job(index=0, arrival=0.0, num_steps=4))
