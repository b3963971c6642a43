# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.frontend.http_protocol`: CPU of a request in uvicorn, with its own HTTP protocol and with ours.

The app behind both only takes the body and sends as much back. Rounds are interleaved; the ratio is of one round.
"""

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import uvloop
from starlette.types import Receive, Scope, Send

from benchmarks import ROOT
from benchmarks.common import cpu_time
from benchmarks.common.closed_loop import Loop, drive
from benchmarks.common.free_port import free_port

PROTOCOLS = ("httptools", "fastapi_triton.serving.http_protocol:Protocol")
SIZES = (100, 16_384, 262_144, 1_398_104)
CONCURRENCY = (1, 8)
NUM_ROUNDS, SECONDS = 6, 0.5


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the body back, with the headers that a frontend's answer has."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    pieces: list[bytes] = []
    more_body = True
    while more_body:
        message = await receive()
        pieces.append(message["body"])
        more_body = message["more_body"]
    body = b"".join(pieces)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", b"0123456789abcdef0123456789abcdef"),
        (b"server-timing", b"triton;dur=1.0"),
        (b"vary", b"Accept"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def _serving(protocol: str) -> Iterator[tuple[int, int]]:
    """The port and the process of a server with this protocol; it takes callers."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "benchmarks.frontend.http_protocol:app", "--port", str(port)),
            *("--http", protocol, "--no-access-log", "--no-proxy-headers", "--log-level", "warning"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    try:
        while not _listens(port):
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _microseconds(port: int, pid: int, size: int, concurrency: int) -> float:
    """CPU per request of one measurement."""
    body = b"x" * size
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\n"
    loop = Loop(head + b"Content-Length: %d\r\n\r\n" % size + body, lambda answer: answer == body)
    before = cpu_time.seconds([pid])
    await drive(loop, port, concurrency=concurrency, seconds=SECONDS)
    return (cpu_time.seconds([pid]) - before) / len(loop.latencies) * 1e6


async def main() -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_serving(protocol)) for protocol in PROTOCOLS]
        for port, pid in servers:
            await _microseconds(port, pid, SIZES[0], 1)  # it is warm then
        sys.stdout.write("bytes  callers  uvicorn us  ours us  ratio (lowest to highest)\n")
        for size in SIZES:
            for concurrency in CONCURRENCY:
                rounds = [
                    [await _microseconds(port, pid, size, concurrency) for port, pid in servers]
                    for _ in range(NUM_ROUNDS)
                ]
                theirs, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
                ratios = sorted(b / a for a, b in rounds)
                sys.stdout.write(
                    f"{size:7d} {concurrency:4d} {theirs:10.0f} {ours:9.0f}  "
                    f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})\n"
                )


if __name__ == "__main__":
    uvloop.run(main())
