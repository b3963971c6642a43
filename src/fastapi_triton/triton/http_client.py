# SPDX-License-Identifier: Apache-2.0
"""Triton over HTTP: `infer_codec.py` writes and reads the bodies of `/infer`, `generate_codec.py` those of
`/generate_stream`. Streams that it cannot carry go over gRPC (`grpc_stream.py`), if that is set up.

It does not use tritonclient's aio client, which has no timeout per request, makes Triton gzip every response (ten times
the CPU for a picture), and does not wrap errors.
"""

import asyncio
import functools
import logging
import os
import struct
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Self
from urllib.parse import quote

import orjson

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
from fastapi_triton.triton import generate_codec, generate_stream, infer_codec
from fastapi_triton.triton.client import (
    CARRIES_ALL,
    NO_EXTENSIONS,
    Extensions,
    ModelStatus,
    Tensors,
    Unstreamable,
)
from fastapi_triton.triton.error_mapping import (
    SuspectedDeathError,
    failure,
    require_plain,
    require_triton,
    suspects_death,
    unreadable,
)
from fastapi_triton.triton.model_config import ModelConfig, from_server
from fastapi_triton.triton.model_health import ModelProcesses, death
from fastapi_triton.triton.process_check import ProcessCheck
from fastapi_triton.triton.tensor import Tensor
from fastapi_triton.triton.transport.connection import Pieces, ResponseHead
from fastapi_triton.triton.transport.credentials import OPEN_TO_ALL, Access
from fastapi_triton.triton.transport.errors import LOST
from fastapi_triton.triton.transport.health_check import HealthCheck
from fastapi_triton.triton.transport.pool import ConnectionPool

logger = logging.getLogger(__name__)

NO_GRPC = "TRITON_GRPC_URL needs more packages: pip install 'fastapi-triton[grpc]'"
HEADER_LENGTH = "Inference-Header-Content-Length"


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
        grpc_url: str | None = None,
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
        self._grpc = None
        if grpc_url is not None:
            # Otherwise gRPC logs that it skips its fork handlers when the embedded Triton is started again.
            os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
            try:
                from fastapi_triton.triton.grpc_stream import GRPCStreams  # needs the extra
            except ModuleNotFoundError:
                raise ModuleNotFoundError(NO_GRPC) from None
            self._grpc = GRPCStreams(grpc_url, access, connect_timeout_s=connect_timeout_s, processes=self.processes)
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
            grpc_url=settings.triton_grpc_url,
        )

    async def __aenter__(self) -> Self:
        self._open = AsyncExitStack()
        self._open.callback(self.pool.close)
        if self._grpc is not None:
            self._open.push_async_callback(self._grpc.close)
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
        return CARRIES_ALL if self._grpc is not None else generate_codec.unstreamable(config)

    async def stream(
        self, model: str, inputs: Tensors, *, request_id: str = "", version: str = ""
    ) -> AsyncGenerator[dict[str, Tensor], None]:
        timeout_s = self._time_left()
        config = self._configs.get(model) or await self.config(model)
        path = f"{_path(model, version)}/generate_stream"
        sent_at = asyncio.get_running_loop().time()
        try:
            with Stage(TRITON, model) as stage:
                body = self._generate_body(inputs, request_id, config)
                if self._grpc is not None and body is None:
                    self.pool.breaker.require_closed()
                    stream = self._grpc.stream(
                        inputs, config, request_id, version, timeout_s=timeout_s, trace_headers=stage.trace_headers
                    )
                else:
                    head = b"".join(self._head("POST", path, generate_stream.HEADERS + _lines(stage.trace_headers)))
                    stream = generate_stream.responses(
                        self.pool, self.processes, head, body or b"", config, timeout_s=timeout_s
                    )
                async with aclosing(stream) as responses:
                    async for outputs in responses:
                        yield outputs
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

    def _generate_body(self, inputs: Tensors, request_id: str, config: ModelConfig) -> bytes | None:
        """The body of `/generate_stream`; None: only gRPC can carry the request or its responses."""
        if self._grpc is None:
            return generate_codec.request_body(inputs, request_id, config)
        if generate_codec.unstreamable(config).outputs:
            return None
        try:
            return generate_codec.request_body(inputs, request_id, config)
        except (InvalidRequestError, TypeError):
            return None

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


@functools.lru_cache(maxsize=1024)  # a version may come from the client
def _path(model: str, version: str = "") -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _model_status(entry: Mapping[str, str]) -> ModelStatus:
    return ModelStatus(entry["name"], entry.get("version", ""), entry.get("state", ""), entry.get("reason", ""))
