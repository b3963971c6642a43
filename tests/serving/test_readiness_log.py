# SPDX-License-Identifier: Apache-2.0
"""`serve` prints and logs changes of readiness, its own or its workers', without requests to `/health/ready`."""

import asyncio
import logging
import socket

import pytest
from fastapi import FastAPI

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.serving.readiness_log import ReadinessLog, reported
from fastapi_triton.serving.server import Server
from fastapi_triton.serving.supervisor import Workers, WorkersPlan
from fastapi_triton.testing import FakeTriton
from support.echo_models import echo, model, tensor

GREETING = "\n  Ready: http://localhost:1\n"


def test_only_changes_are_logged(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = ReadinessLog(GREETING)
    for is_ready in (False, False, True, True, False, False, True):
        log.report(is_ready, '{"status": "…"}')
    assert capsys.readouterr().out == GREETING
    assert [record.getMessage() for record in caplog.records] == [
        'the app is no longer ready: {"status": "…"}',
        "the app is ready again",
    ]


async def test_readiness_is_reported_at_every_change_once_the_server_listens() -> None:
    triton = FakeTriton()
    triton.add(model("a", tensor("x")), echo)
    app = TritonFrontend(triton=triton, settings=Settings(generate=True, watch_interval_s=3600))
    server = Server(app)
    reports: asyncio.Queue[bool] = asyncio.Queue()
    async with reported(app, server, lambda is_ready, _: reports.put_nowait(is_ready)):
        await app.registry.poll()
        assert reports.empty()
        server.is_listening.set()
        assert await reports.get()
        triton.is_running = False
        async with app.registry.polling():
            assert not await reports.get()
            triton.is_running = True
            assert await reports.get()


async def test_another_app_is_ready_when_its_server_listens() -> None:
    server = Server(FastAPI())
    reports: asyncio.Queue[bool] = asyncio.Queue()
    async with reported(FastAPI(), server, lambda is_ready, _: reports.put_nowait(is_ready)):
        server.is_listening.set()
        assert await reports.get()


async def test_workers_are_ready_while_one_of_them_is() -> None:
    reports: asyncio.Queue[tuple[bool, str]] = asyncio.Queue()
    with socket.socket() as shared:
        workers = Workers(
            WorkersPlan(2, None, is_bundled_repository=False),
            shared,
            on_report=lambda is_ready, body: reports.put_nowait((is_ready, body)),
        )
        ours, theirs = zip(*(socket.socketpair() for _ in range(2)), strict=True)
        reading = [asyncio.create_task(workers._read_reports(pid, end)) for pid, end in enumerate(ours)]
        for worker, line, is_ready in (
            (0, b'[true, "a"]\n', True),
            (1, b'[false, "b"]\n', True),
            (0, b'[false, "c"]\n', False),
            (1, b'[true, "d"]\n', True),
        ):
            theirs[worker].sendall(line)
            assert (await reports.get())[0] is is_ready
        theirs[0].close()
        await reading[0]
        assert reports.empty()
        theirs[1].close()  # the last ready worker
        assert await reports.get() == (False, "worker 1 has ended")
        await reading[1]
