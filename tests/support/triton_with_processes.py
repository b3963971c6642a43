# SPDX-License-Identifier: Apache-2.0
"""A scripted Triton, 2.51 or current, with one Python model, `echo`, whose stub process can die."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from support.scripted_triton import Upstream, scripted_triton

OLD, CURRENT = "2.51.0", "2.73.0"
SHARED_MEMORY_OFF = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
DIED = "Stub process 'echo_0_0' is not healthy."
CONFIG = {
    "name": "echo",
    "backend": "python",
    "max_batch_size": 0,
    "input": [{"name": "text", "data_type": "TYPE_STRING", "dims": [1]}],
    "output": [{"name": "text", "data_type": "TYPE_STRING", "dims": [1]}],
}
RESPONSE = {
    "model_name": "echo",
    "outputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hi"]}],
}
EVENTS = b"Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"


@dataclass
class TritonWithProcesses:
    """The test sets `version`, whether the stub process lives, and the responses of the model."""

    version: str = OLD
    url: str = ""
    is_dead: bool = False
    is_loaded: bool = True
    answered: int = 0
    failed: int = 0
    executed: int = 0
    is_decoupled: bool = False
    is_batching: bool = False  # it batches requests, so its statistics count fewer executions
    has_shared_memory: bool = True
    config: dict[str, Any] = field(default_factory=lambda: CONFIG)
    parameters: dict[str, Any] = field(default_factory=dict)
    model_says: str | None = None  # the error message of the model itself
    polls: list[str] = field(default_factory=list)

    def die(self) -> None:
        self.is_dead = True

    def load(self) -> None:
        """Reload the model: another stub process, and statistics from 0."""
        self.is_dead = False
        self.is_loaded = True
        self.answered = self.failed = self.executed = 0

    async def serve(self, upstream: Upstream) -> None:
        while True:
            head, body = await upstream.request()
            path = head.split(b" ")[1].decode()
            self.polls.append(path)
            await self.respond(upstream, path, head, body)

    async def respond(self, upstream: Upstream, path: str, head: bytes, body: bytes) -> None:
        if path.endswith("/infer"):
            await self._infer(upstream)
        elif path.endswith("/generate_stream"):
            await self._stream(upstream)
        elif path.endswith(("/load", "/unload")):
            if path.endswith("/unload"):
                self.is_loaded = False
            elif not self.is_loaded:  # loading a loaded model again does not replace its stub process
                self.load()
            await upstream.respond(b"")
        else:
            status, payload = self._payload(path)
            await upstream.respond(b"" if payload is None else orjson.dumps(payload), status=status)

    def _payload(self, path: str) -> tuple[bytes, Any]:
        is_of_caller = path == "/v2/models/caller/ready"  # a model that lives, and sends its requests to `echo`
        is_called_ready = self.is_loaded and not (self.is_dead and self.version == CURRENT and not is_of_caller)
        if path == "/v2":
            return b"200 OK", {"name": "triton", "version": self.version}
        if path == "/v2/health/ready" or path.endswith("/ready"):
            body = None if is_called_ready or path == "/v2/health/ready" else {"error": "Model version not ready"}
            return (b"200 OK" if is_called_ready else b"400 Bad Request"), body
        if path == "/v2/repository/index":
            state = "READY" if self.is_loaded else "UNAVAILABLE"
            return b"200 OK", [
                {"name": "echo", "version": "1", "state": state, "reason": "" if self.is_loaded else "unloaded"}
            ]
        if not self.is_loaded and path.startswith("/v2/models"):
            return b"404 Not Found", {"error": "Request for unknown model: 'echo' has no available versions"}
        if path.endswith(("/register", "/unregister")) and not self.has_shared_memory:
            return b"501 Not Implemented", {"error": SHARED_MEMORY_OFF}
        if path.endswith("/config"):
            policy = {"model_transaction_policy": {"decoupled": self.is_decoupled}}
            batching = {"dynamic_batching": {}} if self.is_batching else {}
            return b"200 OK", self.config | policy | batching | {"parameters": self.parameters}
        if path.endswith("/stats"):
            counted = {"success": {"count": self.answered}, "fail": {"count": self.failed}}
            return b"200 OK", {
                "model_stats": [{"name": "echo", "execution_count": self.executed, "inference_stats": counted}]
            }
        return b"200 OK", {}

    async def _infer(self, upstream: Upstream) -> None:
        error = self._run()
        if error is None:
            await upstream.respond(orjson.dumps(RESPONSE))
        else:
            await upstream.respond(orjson.dumps({"error": error}), status=b"500 Internal Server Error")

    async def _stream(self, upstream: Upstream) -> None:
        error = self._run()
        if error is not None:
            event = b"data: " + orjson.dumps({"error": error}) + b"\n\n"
            head = b"HTTP/1.1 400 Bad Request\r\n%s" % EVENTS
            await upstream.send(b"%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (head, len(event), event))
            return
        event = b"data: " + orjson.dumps({"model_name": "echo", "text": "begun"}) + b"\n\n"
        await upstream.send(b"HTTP/1.1 200 OK\r\n%s\r\n%x\r\n%s\r\n" % (EVENTS, len(event), event))
        await upstream.closed()  # it never ends, like a stream whose stub process died

    def _run(self) -> str | None:
        """The error of one request, if any, counted as Triton counts it."""
        if self.is_dead:
            self.failed += 1
            return DIED
        self.executed += 1
        self.answered += 1  # an error response of the model counts as an execution
        return self.model_says


@asynccontextmanager
async def triton_with_processes(version: str) -> AsyncIterator[TritonWithProcesses]:
    async with scripted_triton() as scripted:
        triton = TritonWithProcesses(version, scripted.url)
        scripted.script = triton.serve
        yield triton
