# SPDX-License-Identifier: Apache-2.0
"""Triton over HTTP: `infer_codec.py` writes and reads the bodies of `/infer`, `generate_codec.py` those of
`/generate_stream`.

It does not use tritonclient's aio client, which has no timeout per request, makes Triton gzip every response (ten times
the CPU for a picture), and does not wrap errors.
"""

import asyncio
import functools
import logging
import struct
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Self
from urllib.parse import quote

import orjson

from fastapi_triton.core import sse_parser
from fastapi_triton.core.context import remaining_s
from fastapi_triton.core.errors import (
    DeadlineExceededError,
    FastAPITritonError,
    InferenceError,
    InvalidRequestError,
    ModelNotReadyError,
    TritonUnavailableError,
)
from fastapi_triton.core.request_record import TRITON, Headers, Stage
from fastapi_triton.core.settings import Settings
from fastapi_triton.triton import generate_codec, infer_codec
from fastapi_triton.triton.client import NO_EXTENSIONS, Extensions, ModelStatus, Tensors, Unstreamable
from fastapi_triton.triton.error_mapping import (
    SuspectedDeathError,
    failure,
    require_plain,
    require_triton,
    stream_failure,
    suspects_death,
    unreadable,
)
from fastapi_triton.triton.model_config import ModelConfig, from_server
from fastapi_triton.triton.model_health import ModelProcesses, death
from fastapi_triton.triton.process_check import ProcessCheck
from fastapi_triton.triton.tensor import Tensor
from fastapi_triton.triton.transport.connection import Connection, Pieces, ResponseHead
from fastapi_triton.triton.transport.credentials import OPEN_TO_ALL, Access
from fastapi_triton.triton.transport.errors import LOST, lost
from fastapi_triton.triton.transport.health_check import HealthCheck
from fastapi_triton.triton.transport.pool import ConnectionPool

logger = logging.getLogger(__name__)

HEADER_LENGTH = "Inference-Header-Content-Length"
_PIECE_BYTES = 512 * 1024
_EVENTS = sse_parser.MEDIA_TYPE.encode()
# The headers that define the end of a response. Without one, a truncated response looks complete.
_ENDS = frozenset((b"content-length", b"transfer-encoding"))


class HTTPTriton:
    """Implements `TritonClient` for a Triton at `url`. One pool of connections, in one event loop."""

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float = 2.0,
        request_timeout_s: float = 300.0,
        heartbeat_s: float = 2.0,
        access: Access = OPEN_TO_ALL,
    ) -> None:
        self._request_timeout_s = request_timeout_s
        # A readiness request must not take longer than a person waits.
        self._probe_timeout_s = max(5.0, connect_timeout_s)
        self.pool = ConnectionPool(url, connect_timeout_s=connect_timeout_s, access=access)
        self.url = str(self.pool.address)  # without credentials
        self._health_check = HealthCheck(self.pool, interval_s=heartbeat_s)
        self._open: AsyncExitStack | None = None
        self.processes = ModelProcesses()
        self._process_check = ProcessCheck(self.processes, self.status_request)
        # The last results of `config`: the JSON of a stream does not name its datatypes.
        self._configs: dict[str, ModelConfig] = {}

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The client of the Triton at `settings.triton_url`."""
        return cls(
            settings.triton_url,
            connect_timeout_s=settings.connect_timeout_s,
            request_timeout_s=settings.request_timeout_s,
            heartbeat_s=settings.watch_interval_s,
            access=Access.of(settings),
        )

    async def __aenter__(self) -> Self:
        self._open = AsyncExitStack()
        self._open.callback(self.pool.close)
        await self._open.enter_async_context(self._health_check.running())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened.aclose()

    @property
    def is_up(self) -> bool:
        return self.pool.breaker.error is None

    @property
    def num_open_breakers(self) -> int:
        return int(not self.is_up)

    @property
    def keeps_sequences(self) -> bool:
        return True

    async def status_request(self, method: str, path: str, *, body: Pieces = ()) -> tuple[ResponseHead, memoryview]:
        """Send a request that changes nothing, and repeat it once if the connection breaks. Any status is a response.

        Raises:
            TritonUnavailableError: Triton cannot be reached.
            DeadlineExceededError: no response in time.
        """
        try:
            return await self._call(method, path, timeout_s=self._probe_timeout_s, body=body)
        except TritonUnavailableError as error:
            if error.code != LOST:
                raise
            return await self._call(method, path, timeout_s=self._probe_timeout_s, body=body)

    def subscribe(self, on_change: Callable[[str], None]) -> None:
        self.processes.on_change = on_change
        self.pool.breaker.on_change = functools.partial(on_change, "")

    async def server_ready(self) -> bool:
        head, _ = await self.status_request("GET", "/v2/health/ready")
        return head.status != 400  # other statuses are not about the models

    async def check_processes(self) -> None:
        await self._process_check.check()

    async def ready(self, model: str) -> bool:
        return await self._process_check.ready(model)

    async def config(self, model: str) -> ModelConfig:
        head, body = await self.status_request("GET", f"{_path(model)}/config")
        if head.status != 200:
            require_triton(head.status, bytes(body))
            raise ModelNotReadyError(
                f"Triton has not loaded the model {model}. Try again. If loading failed, the log has the reason.",
                retry_after_s=1.0,
            )
        try:
            config = self._configs[model] = from_server(orjson.loads(body))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.error("GET %s%s/config: %r: %r", self.url, _path(model), error, bytes(body[:200]))
            raise InferenceError(f"Triton's config of {model} cannot be read.") from None
        self.processes.calls(model, config.called_model)
        return config

    async def index(self) -> list[ModelStatus]:
        path = "/v2/repository/index"
        with self._health_check.status_request():
            head, body = await self.status_request("POST", path, body=(b"{}",))
        try:
            if head.status != 200:
                require_triton(head.status, bytes(body))
                raise ValueError(f"status {head.status}")
            return [_model_status(entry) for entry in orjson.loads(body)]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.error("POST %s%s: %r: %r", self.url, path, error, bytes(body[:200]))
            raise InferenceError("Triton's list of models cannot be read.") from None

    async def infer(
        self,
        model: str,
        inputs: Tensors,
        *,
        outputs: Sequence[str] = (),
        request_id: str = "",
        version: str = "",
        extensions: Extensions = NO_EXTENSIONS,
    ) -> dict[str, Tensor]:
        timeout_s = self._time_left()
        body, header_length = infer_codec.request_body(
            inputs, outputs, request_id, self._queue_timeout_us(model, timeout_s), extensions
        )
        path = f"{_path(model, version)}/infer"
        lines = f"Content-Type: application/octet-stream\r\n{HEADER_LENGTH}: {header_length}\r\n"
        sent_at = asyncio.get_running_loop().time()
        try:
            with Stage(TRITON, model) as stage:
                if trace_headers := stage.trace_headers:
                    lines += _lines(trace_headers)
                head, response_body = await self._call(
                    "POST", path, timeout_s=timeout_s, body=body, headers=lines, model=model
                )
        except (DeadlineExceededError, TritonUnavailableError) as error:
            self._warn(path, error)
            raise
        headers = dict(head.headers)
        if b"content-encoding" in headers:
            require_plain(headers)
        if head.status != 200:
            raise await self._learned(model, failure(model, head.status, bytes(response_body)), sent_at)
        self.processes.answered(model)
        try:
            return infer_codec.response_tensors(response_body, infer_codec.header_length(headers))
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            # The text is not logged, because it may repeat the client's.
            logger.error(
                "model %s: its response of %d bytes cannot be read: %s", model, len(response_body), type(error).__name__
            )
            raise unreadable(model) from None

    def unstreamable(self, config: ModelConfig) -> Unstreamable:
        return generate_codec.unstreamable(config)

    async def stream(
        self, model: str, inputs: Tensors, *, request_id: str = "", version: str = ""
    ) -> AsyncGenerator[dict[str, Tensor], None]:
        timeout_s = self._time_left()
        config = self._configs.get(model) or await self.config(model)
        body = generate_codec.request_body(inputs, request_id, config)
        path = f"{_path(model, version)}/generate_stream"
        headers = (
            f"Accept: {sse_parser.MEDIA_TYPE}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        sent_at = asyncio.get_running_loop().time()
        try:
            with Stage(TRITON, model) as stage:
                head = self._head("POST", path, headers + _lines(stage.trace_headers))
                # Closing the connection before the stream's end cancels the request.
                async with self.pool.exchange(timeout_s=timeout_s, is_cancelled_by_closing=True) as connection:
                    with self.processes.running(model, connection):
                        await _send(connection, b"".join(head), body)
                        async with aclosing(self._stream_events(connection, model)) as events:
                            async for event in events:
                                yield _event_tensors(event, config)
                                self.processes.answered(model)
        except (TimeoutError, TritonUnavailableError, ModelNotReadyError) as error:
            self._configs.pop(model, None)
            self._warn(path, error)
            if isinstance(error, TimeoutError):
                raise _too_late(timeout_s) from error
            raise
        except InvalidRequestError as error:
            raise generate_codec.no_empty_list(inputs, error) from None
        except SuspectedDeathError as error:
            raise await self._learned(model, error, sent_at) from None

    async def _stream_events(self, connection: Connection, model: str) -> AsyncGenerator[bytes, None]:
        """The data of each event of a response.

        Raises:
            InferenceError: the response is compressed, or not a stream of events.
            TritonUnavailableError: the response may be truncated.
        """
        head = await connection.head()
        headers = dict(head.headers)
        require_plain(headers)
        if not headers.get(b"content-type", b"").startswith(_EVENTS):
            text = b"".join([each async for each in connection])
            if head.status == 200:
                logger.error("model %s: its stream of %d bytes is not %s", model, len(text), sse_parser.MEDIA_TYPE)
                raise unreadable(model)
            raise failure(model, head.status, text)
        try:
            async with aclosing(sse_parser.parse(connection)) as events:
                async for _, data in events:
                    yield data
        except ValueError as error:
            logger.error("model %s: %s", model, error)
            raise unreadable(model) from None
        # If a model fails before its first response, Triton returns 400 for any error, and the error is an event.
        if head.status != 200:
            raise failure(model, head.status, b"")
        if not headers.keys() & _ENDS:
            raise lost()

    async def _learned(self, model: str, error: FastAPITritonError, sent_at: float) -> FastAPITritonError:
        """The error, or `death` if it reports that the stub process died and Triton confirms it."""
        if isinstance(error, SuspectedDeathError) and await self._process_check.confirms(model, sent_at):
            return death(model)
        return error

    async def learn(self, model: str, body: bytes, sent_at: float) -> None:
        """Check for a dead stub process after an error response to a `/v2` request that was sent at this time."""
        if suspects_death(model, body):
            await self._process_check.confirms(model, sent_at)

    def _warn(self, path: str, error: Exception) -> None:
        """Log the failure, except if the circuit breaker rejected the request: it logs that once."""
        is_refusal = self.pool.breaker.error is not None and getattr(error, "code", "") != LOST
        logger.log(logging.DEBUG if is_refusal else logging.WARNING, "POST %s%s: %r", self.url, path, error)

    def _time_left(self) -> float:
        """The timeout of a request. Raises if the deadline has passed already, so the request is not sent."""
        left_s = remaining_s(self._request_timeout_s)
        if left_s <= 0:
            raise DeadlineExceededError("The request's deadline passed before it was sent to Triton. Nothing was run.")
        return left_s

    def _queue_timeout_us(self, model: str, timeout_s: float) -> int:
        """Triton's `timeout` in microseconds, if the model respects it and would wait longer; else 0."""
        config = self._configs.get(model)
        if config is None or config.queue_timeout_s is None or timeout_s >= config.queue_timeout_s:
            return 0
        return max(1, int(timeout_s * 1e6))

    def _head(self, method: str, path: str, headers: str) -> tuple[bytes, bytes, bytes]:
        """Request line and headers; `headers` are complete lines."""
        if self._open is None:
            raise RuntimeError("HTTPTriton is used outside its `async with`")
        path = self.pool.address.path + path
        line = f"{method} {path} HTTP/1.1\r\nAccept-Encoding: identity\r\n{headers}".encode()
        return line, self.pool.headers.lines(), b"\r\n"

    async def _call(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        body: Pieces = (),
        headers: str = "",
        model: str | None = None,
    ) -> tuple[ResponseHead, memoryview]:
        """One exchange. `headers` are complete lines. The death of `model`, if given, ends the exchange."""
        if method == "POST":
            headers += f"Content-Length: {sum(map(len, body))}\r\n"
        try:
            pieces = (*self._head(method, path, headers), *body)
            if model is None:
                return await self.pool.request(pieces, timeout_s=timeout_s)
            async with self.pool.exchange(timeout_s=timeout_s) as connection:
                with self.processes.running(model, connection):
                    return await connection.request(pieces)
        except TritonUnavailableError as error:
            if error.code == TritonUnavailableError.default_code:  # Triton cannot be reached
                self.processes.forget()
            raise
        except TimeoutError as error:
            raise _too_late(timeout_s) from error


def _lines(headers: Headers) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers)


def _too_late(timeout_s: float) -> DeadlineExceededError:
    return DeadlineExceededError(
        f"Triton did not respond within {timeout_s:.3g} s. It may still be working on the request."
    )


async def _send(connection: Connection, head: bytes, body: bytes) -> None:
    """Send a large body in pieces, so that the event loop serves other requests meanwhile."""
    connection.start(head, body[:_PIECE_BYTES])
    for start in range(_PIECE_BYTES, len(body), _PIECE_BYTES):
        await connection.write(body[start : start + _PIECE_BYTES])
    connection.finish()


@functools.lru_cache(maxsize=1024)  # a version may come from the client
def _path(model: str, version: str = "") -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _model_status(entry: Mapping[str, str]) -> ModelStatus:
    return ModelStatus(entry["name"], entry.get("version", ""), entry.get("state", ""), entry.get("reason", ""))


def _event_tensors(data: bytes, config: ModelConfig) -> dict[str, Tensor]:
    try:
        event = generate_codec.event(data)
        message = generate_codec.error_text(event)
        if message is None and "model_name" not in event:
            raise ValueError("the data is not an event of Triton's")
        if message is None:
            return generate_codec.tensors(event, config)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        logger.error(
            "model %s: an event of %d bytes of its stream cannot be read: %s",
            config.name,
            len(data),
            type(error).__name__,
        )
        if names := generate_codec.names_of_no_text(data):
            detail = f"The model {config.name} returned bytes that are not UTF-8 text, in `{'`, `'.join(names)}`."
            raise InferenceError(detail) from None
        raise unreadable(config.name) from None
    raise stream_failure(config.name, message)
