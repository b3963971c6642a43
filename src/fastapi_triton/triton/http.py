# SPDX-License-Identifier: Apache-2.0
"""Triton over HTTP: `tensor_bodies.py` writes and reads what goes to `/infer`, `connections.py` carries it; aiohttp
carries the streams.

tritonclient's own aio client is left out: it has no timeout per request, lets Triton gzip every answer (ten times
the CPU for a picture), and passes errors through unwrapped.
"""

import functools
import logging
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote

import aiohttp
import orjson

from fastapi_triton.errors import (
    DeadlineExceededError,
    FastAPITritonError,
    InferenceError,
    ModelNotReadyError,
    TritonUnavailableError,
)
from fastapi_triton.model_config import ModelConfig, from_server
from fastapi_triton.observation import TRITON, Stage
from fastapi_triton.triton import generate, tensor_bodies
from fastapi_triton.triton.client import ModelStatus, Tensor, Tensors
from fastapi_triton.triton.connections import AnswerHead, Connections, lost, unreachable
from fastapi_triton.triton.failures import failure, stream_failure
from fastapi_triton.triton.model_processes import Counts, ModelProcesses, death

logger = logging.getLogger(__name__)

HEADER_LENGTH = "Inference-Header-Content-Length"
_PIECE_BYTES = 512 * 1024
# Without this aiohttp asks for gzip, and Triton then spends ten times the CPU on compressing a picture.
_HEADERS = {"Accept-Encoding": "identity"}


class HTTPTriton:
    """Implements `TritonClient` for a Triton at `url`. One pool of connections, in one event loop."""

    def __init__(self, url: str, *, connect_timeout_s: float = 2.0, request_timeout_s: float = 300.0) -> None:
        self.url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=request_timeout_s, sock_connect=connect_timeout_s)
        self._request_timeout_s = request_timeout_s
        # Asking whether it is ready must not take longer than a person waits.
        self._probe_timeout_s = max(5.0, connect_timeout_s)
        self._connections = Connections(url, connect_timeout_s=connect_timeout_s)
        self._is_open = False
        self.is_up = False
        self._open_session: aiohttp.ClientSession | None = None
        self._processes = ModelProcesses()
        # What `config` gave last: a stream's JSON does not name its datatypes.
        self._configs: dict[str, ModelConfig] = {}

    async def __aenter__(self) -> Self:
        # Admission bounds what is in flight, so the pool itself needs no limit to queue behind.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        self._open_session = aiohttp.ClientSession(connector=connector, headers=_HEADERS, auto_decompress=False)
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._is_open = False
        self._connections.close()
        if self._open_session is not None:
            await self._open_session.close()
            self._open_session = None

    async def ready(self, model: str) -> bool:
        head, _ = await self._call("GET", f"{_path(model)}/ready", timeout_s=self._probe_timeout_s)
        if head.status != 200:
            return False
        if self._processes.is_dead(model):
            await self._look_at_process(model)
        return True

    async def _look_at_process(self, model: str) -> None:
        """Raise that it is dead, unless it is there again."""
        head, body = await self._call("GET", f"{_path(model)}/stats", timeout_s=self._probe_timeout_s)
        if head.status == 200:
            self._processes.compare(model, Counts.of_statistics(bytes(body)))
        if self._processes.is_dead(model):
            raise death(model)

    async def config(self, model: str) -> ModelConfig:
        head, body = await self._call("GET", f"{_path(model)}/config", timeout_s=self._probe_timeout_s)
        if head.status != 200:
            raise ModelNotReadyError(
                f"Triton has not loaded the model {model}. Try again, or see /health/ready.", retry_after_s=1.0
            )
        try:
            config = self._configs[model] = from_server(orjson.loads(body))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.error("GET %s%s/config: %r: %r", self.url, _path(model), error, body[:200])
            raise InferenceError(f"Triton gave a config of {model} that cannot be read.") from None
        return config

    async def index(self) -> list[ModelStatus]:
        path = "/v2/repository/index"
        head, body = await self._call("POST", path, timeout_s=self._probe_timeout_s, body=(b"{}",))
        try:
            if head.status != 200:
                raise ValueError(f"status {head.status}")
            return [_model_status(entry) for entry in orjson.loads(body)]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.error("POST %s%s: %r: %r", self.url, path, error, bytes(body[:200]))
            raise InferenceError("Triton gave a list of its models that cannot be read.") from None

    async def infer(
        self, model: str, inputs: Tensors, *, outputs: Sequence[str] = (), request_id: str = "", version: str = ""
    ) -> dict[str, Tensor]:
        body, header_length = tensor_bodies.request_body(inputs, outputs, request_id)
        with Stage(TRITON, model) as stage:
            head, answer = await self._call(
                "POST",
                f"{_path(model, version)}/infer",
                timeout_s=self._request_timeout_s,
                body=body,
                headers=f"Content-Type: application/octet-stream\r\n{HEADER_LENGTH}: {header_length}\r\n"
                + "".join(f"{name}: {value}\r\n" for name, value in stage.trace_headers),
            )
        if head.status != 200:
            raise self._learned(model, failure(model, head.status, bytes(answer)))
        self._processes.answered(model)
        try:
            return tensor_bodies.answer_tensors(answer, tensor_bodies.header_length(dict(head.headers)))
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            # Without what it says, which may be what the caller wrote.
            logger.error(
                "model %s: its answer of %d bytes cannot be read: %s", model, len(answer), type(error).__name__
            )
            raise InferenceError(f"The model {model} gave an answer that cannot be read.") from None

    async def stream(
        self, model: str, inputs: Tensors, *, request_id: str = "", version: str = ""
    ) -> AsyncGenerator[dict[str, Tensor], None]:
        body = generate.request_body(inputs, request_id)
        config = self._configs.get(model) or await self.config(model)
        path = f"{_path(model, version)}/generate_stream"
        headers = {
            "Accept": generate.MEDIA_TYPE,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
        try:
            with Stage(TRITON, model) as stage:
                headers.update(stage.trace_headers)
                async with self._session.post(
                    self.url + path, data=_paced(body), headers=headers, timeout=self._timeout
                ) as answer:
                    # Where a model fails before its first response Triton says 400, whatever it was, and the event
                    # follows.
                    if answer.status != 200 and answer.content_type != generate.MEDIA_TYPE:
                        self._configs.pop(model, None)
                        raise self._learned(model, failure(model, answer.status, await answer.read()))
                    try:
                        async for event in generate.events(answer.content.iter_any()):
                            outputs = self._event_tensors(event, config)
                            self._processes.answered(model)
                            yield outputs
                    finally:
                        # Before the end of the stream this is how the model learns that the caller left; after it,
                        # nothing.
                        answer.close()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            self._configs.pop(model, None)
            logger.warning("POST %s%s: %r", self.url, path, error)
            raise _stream_failure(error, self._request_timeout_s) from error

    def _event_tensors(self, event: bytes, config: ModelConfig) -> dict[str, Tensor]:
        try:
            return _event_tensors(event, config)
        except FastAPITritonError as error:
            raise self._learned(config.name, error) from None

    def _learned(self, model: str, error: FastAPITritonError) -> FastAPITritonError:
        self._processes.learn_from(model, error)
        return error

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._open_session is None:
            raise RuntimeError("HTTPTriton is used outside its `async with`")
        return self._open_session

    async def _call(
        self, method: str, path: str, *, timeout_s: float, body: Sequence[bytes] = (), headers: str = ""
    ) -> tuple[AnswerHead, memoryview]:
        """One exchange. `headers` are whole lines of their own."""
        if not self._is_open:
            raise RuntimeError("HTTPTriton is used outside its `async with`")
        if method == "POST":
            headers += f"Content-Length: {sum(map(len, body))}\r\n"
        line = f"{method} {path} HTTP/1.1\r\nAccept-Encoding: identity\r\n{headers}".encode()
        try:
            answer = await self._connections.ask(
                (line, self._connections.host_headers, b"\r\n", *body), timeout_s=timeout_s
            )
            self.is_up = True
            return answer
        except (TimeoutError, TritonUnavailableError) as error:
            # Readiness is asked for all the time; only work that was lost is worth a warning.
            logger.log(
                logging.DEBUG if timeout_s == self._probe_timeout_s else logging.WARNING,
                "%s %s%s: %r",
                method,
                self.url,
                path,
                error,
            )
            if isinstance(error, TritonUnavailableError):
                self.is_up = False
                if error.code == TritonUnavailableError.default_code:  # it cannot be reached at all
                    self._processes.forget()
                raise
            raise _too_late(timeout_s) from error


def _too_late(timeout_s: float) -> DeadlineExceededError:
    return DeadlineExceededError(
        f"Triton gave no answer within {timeout_s:g} s. It may still be working on the request."
    )


def _stream_failure(error: Exception, timeout_s: float) -> FastAPITritonError:
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return unreachable()
    return _too_late(timeout_s) if isinstance(error, TimeoutError) else lost()


def _paced(body: bytes) -> bytes | AsyncIterator[memoryview]:
    """A large body piece by piece, so that others get their turn on the event loop while the kernel takes it."""
    return body if len(body) <= _PIECE_BYTES else _pieces(memoryview(body))


async def _pieces(body: memoryview) -> AsyncIterator[memoryview]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]


@functools.lru_cache(maxsize=1024)  # a version may come from the caller
def _path(model: str, version: str = "") -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _model_status(entry: Mapping[str, str]) -> ModelStatus:
    return ModelStatus(entry["name"], entry.get("version", ""), entry.get("state", ""), entry.get("reason", ""))


def _event_tensors(data: bytes, config: ModelConfig) -> dict[str, Tensor]:
    try:
        event = orjson.loads(data)
        told = generate.error_text(event)
        if told is None:
            return generate.tensors(event, config)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        logger.error(
            "model %s: an event of %d bytes of its stream cannot be read: %s",
            config.name,
            len(data),
            type(error).__name__,
        )
        raise InferenceError(f"The model {config.name} gave an answer that cannot be read.") from None
    raise stream_failure(config.name, told)
