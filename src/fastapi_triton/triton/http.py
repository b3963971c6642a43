# SPDX-License-Identifier: Apache-2.0
"""Triton over HTTP: tritonclient writes and reads the requests, aiohttp carries them.

tritonclient's own aio client is left out: it has no timeout per request, lets Triton gzip every answer (ten times
the CPU for a picture), and passes errors through unwrapped.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import orjson
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from fastapi_triton.datatypes import BY_WIRE
from fastapi_triton.errors import (
    DeadlineExceededError,
    FastAPITritonError,
    InferenceError,
    ModelNotReadyError,
    TritonUnavailableError,
)
from fastapi_triton.model_config import ModelConfig, from_server
from fastapi_triton.triton import generate
from fastapi_triton.triton.client import ModelStatus, Tensor, Tensors
from fastapi_triton.triton.failures import failure, stream_failure

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
        # Asking whether it is ready must not take longer than a person waits.
        self._probe_timeout = aiohttp.ClientTimeout(total=max(5.0, connect_timeout_s), sock_connect=connect_timeout_s)
        self._open_session: aiohttp.ClientSession | None = None
        # What `config` gave last: a stream's JSON does not name its datatypes.
        self._configs: dict[str, ModelConfig] = {}

    async def __aenter__(self) -> Self:
        # Admission bounds what is in flight, so the pool itself needs no limit to queue behind.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        self._open_session = aiohttp.ClientSession(connector=connector, headers=_HEADERS, auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._open_session is not None:
            await self._open_session.close()
            self._open_session = None

    async def ready(self, model: str) -> bool:
        status, _, _ = await self._call("GET", f"{_path(model)}/ready", timeout=self._probe_timeout)
        return status == 200

    async def config(self, model: str) -> ModelConfig:
        status, _, body = await self._call("GET", f"{_path(model)}/config", timeout=self._probe_timeout)
        if status != 200:
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
        status, _, body = await self._call("POST", path, timeout=self._probe_timeout, data=b"{}")
        try:
            if status != 200:
                raise ValueError(f"status {status}")
            return [_model_status(entry) for entry in orjson.loads(body)]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.error("POST %s%s: %r: %r", self.url, path, error, body[:200])
            raise InferenceError("Triton gave a list of its models that cannot be read.") from None

    async def infer(
        self, model: str, inputs: Tensors, *, outputs: Sequence[str] = (), request_id: str = "", version: str = ""
    ) -> dict[str, Tensor]:
        body, header_length = InferenceServerClient.generate_request_body(
            [_infer_input(name, tensor) for name, tensor in inputs.items()],
            outputs=[InferRequestedOutput(name, binary_data=True) for name in outputs] or None,
            request_id=request_id,
        )
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
        if header_length is not None:
            headers[HEADER_LENGTH] = str(header_length)
        status, answer_headers, answer = await self._call(
            "POST", f"{_path(model, version)}/infer", timeout=self._timeout, data=_paced(body), headers=headers
        )
        if status != 200:
            raise failure(model, status, answer)
        return _tensors(answer, answer_headers.get(HEADER_LENGTH))

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
            async with self._session.post(
                self.url + path, data=_paced(body), headers=headers, timeout=self._timeout
            ) as answer:
                # Where a model fails before its first response Triton says 400, whatever it was, and the event follows.
                if answer.status != 200 and answer.content_type != generate.MEDIA_TYPE:
                    self._configs.pop(model, None)
                    raise failure(model, answer.status, await answer.read())
                try:
                    async for event in generate.events(answer.content.iter_any()):
                        yield _event_tensors(event, config)
                finally:
                    # Before the end of the stream this is how the model learns that the caller left; after it, nothing.
                    answer.close()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            self._configs.pop(model, None)
            logger.warning("POST %s%s: %r", self.url, path, error)
            raise self._transport_failure(error, self._timeout) from error

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._open_session is None:
            raise RuntimeError("HTTPTriton is used outside its `async with`")
        return self._open_session

    async def _call(
        self,
        method: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 (aiohttp's own, which also bounds the connecting)
        data: bytes | AsyncIterator[memoryview] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        session = self._session
        try:
            async with session.request(method, self.url + path, data=data, headers=headers, timeout=timeout) as answer:
                return answer.status, answer.headers, await answer.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            # Readiness is asked for all the time; only work that was lost is worth a warning.
            level = logging.DEBUG if timeout is self._probe_timeout else logging.WARNING
            logger.log(level, "%s %s%s: %r", method, self.url, path, error)
            raise self._transport_failure(error, timeout) from error

    def _transport_failure(self, error: Exception, timeout: aiohttp.ClientTimeout) -> FastAPITritonError:
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return TritonUnavailableError("Triton cannot be reached; nothing was run. Try again.", retry_after_s=2.0)
        if isinstance(error, TimeoutError):
            return DeadlineExceededError(
                f"Triton gave no answer within {timeout.total:g} s. It may still be working on the request."
            )
        return TritonUnavailableError(
            "The connection to Triton broke before it had answered; the request may have run.",
            code="triton_connection_lost",
            retry_after_s=2.0,
        )


def _paced(body: bytes) -> bytes | AsyncIterator[memoryview]:
    """A large body piece by piece, so that others get their turn on the event loop while the kernel takes it."""
    return body if len(body) <= _PIECE_BYTES else _pieces(memoryview(body))


async def _pieces(body: memoryview) -> AsyncIterator[memoryview]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]


def _path(model: str, version: str = "") -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _model_status(entry: Mapping[str, str]) -> ModelStatus:
    return ModelStatus(entry["name"], entry.get("version", ""), entry.get("state", ""), entry.get("reason", ""))


def _infer_input(name: str, tensor: Tensor) -> InferInput:
    infer_input = InferInput(name, list(tensor.array.shape), tensor.datatype.wire)
    infer_input.set_data_from_numpy(tensor.array, binary_data=True)
    return infer_input


def _tensors(body: bytes, header_length: str | None) -> dict[str, Tensor]:
    length = None if header_length is None else int(header_length)
    result: Any = InferResult.from_response_body(body, header_length=length)
    return {
        output["name"]: Tensor(BY_WIRE[output["datatype"]], result.as_numpy(output["name"]))
        for output in result.get_response()["outputs"]
    }


def _event_tensors(data: bytes, config: ModelConfig) -> dict[str, Tensor]:
    try:
        event = orjson.loads(data)
        told = generate.error_text(event)
        if told is None:
            return generate.tensors(event, config)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        logger.error("model %s: an event of its stream cannot be read: %r: %r", config.name, error, data[:200])
        raise InferenceError(f"The model {config.name} gave an answer that cannot be read.") from None
    raise stream_failure(config.name, told)
