# SPDX-License-Identifier: Apache-2.0
"""Streams of decoupled models over Triton's gRPC port, for those that `/generate_stream` cannot carry.

This module needs the extra `grpc`, so it is imported only if `triton_grpc_url` is set.
"""

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator
from contextlib import suppress

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fastapi_triton.core.errors import InferenceError, TooLargeError, TritonUnavailableError
from fastapi_triton.core.request_record import Headers
from fastapi_triton.triton import grpc_codec
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.error_mapping import TOO_LARGE, UNREADABLE, rejection, unreadable
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.model_errors import RETRY_AFTER_S
from fastapi_triton.triton.model_health import ModelProcesses
from fastapi_triton.triton.tensor import Tensor
from fastapi_triton.triton.transport.address import Address
from fastapi_triton.triton.transport.credentials import Access, HeaderLines
from fastapi_triton.triton.transport.errors import access_denied, lost, unreachable

logger = logging.getLogger(__name__)

# The largest message, either way. Triton's own limit is 2 GiB.
MAX_MESSAGE_BYTES = 512 * 1024**2
_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # As the HTTP side: a Triton that restarts is found within two seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
_DENIED = {grpc.StatusCode.UNAUTHENTICATED: 401, grpc.StatusCode.PERMISSION_DENIED: 403}
# How long an error waits for the stream's end.
_END_S = 1.0


class _Call:
    """A call as an `Exchange`: `fail` ends it from outside."""

    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:
        self._call = call
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        self.error = error
        self._call.cancel()


class GRPCStreams:
    """Streams of the Triton at `url`, over one channel that is opened on first use. Used inside one event loop."""

    def __init__(self, url: str, access: Access, *, connect_timeout_s: float, processes: ModelProcesses) -> None:
        self._address = Address.of(url)
        self._is_tls = url.startswith("grpcs:")
        self._access = access
        self._connect_timeout_s = connect_timeout_s
        self._processes = processes
        self._headers = HeaderLines(self._address, access)
        self._channel: grpc.aio.Channel | None = None

    async def close(self) -> None:
        """Close the channel. Streams on it are cancelled."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def stream(
        self,
        inputs: Tensors,
        config: ModelConfig,
        request_id: str,
        version: str,
        *,
        timeout_s: float,
        trace_headers: Headers,
    ) -> AsyncGenerator[dict[str, Tensor], None]:
        """Run a decoupled model; see `TritonClient.stream`.

        Raises:
            TimeoutError: the model did not finish in time.
            FastAPITritonError: as `TritonClient.stream`.
        """
        message = grpc_codec.request(inputs, config, request_id, version)
        if message.ByteSize() > MAX_MESSAGE_BYTES:
            raise TooLargeError(
                f"The request has {message.ByteSize():,} bytes; streams over gRPC take {MAX_MESSAGE_BYTES:,}.",
                code=TOO_LARGE,
            )
        stub = service_pb2_grpc.GRPCInferenceServiceStub(await self._connected())
        metadata = [*self._credentials(), *((name.lower(), value) for name, value in trace_headers)]
        call = stub.ModelStreamInfer(iter([message]), timeout=timeout_s, metadata=metadata)
        exchange = _Call(call)
        try:
            with self._processes.running(config.name, exchange):
                async for response in call:
                    if response.error_message:
                        await _ended(call)
                        raise rejection(config.name, response.error_message)
                    yield _tensors(response.infer_response, config)
        except grpc.aio.AioRpcError as error:
            raise _error(config.name, error) from None
        except asyncio.CancelledError:
            if exchange.error is not None:  # our own `call.cancel` raises this too
                raise exchange.error from None
            raise
        finally:
            if not call.done():
                call.cancel()

    def _credentials(self) -> Headers:
        """The configured headers and token; `Host` is the channel's."""
        lines = [line.partition(": ") for line in self._headers.lines().decode().splitlines()]
        return [(name.lower(), value) for name, _, value in lines if name.lower() != "host"]

    async def _connected(self) -> grpc.aio.Channel:
        """The channel, once it is connected.

        Raises:
            TritonUnavailableError: no connection in time.
        """
        self._channel = self._channel or self._opened()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._channel.channel_ready()
        except TimeoutError:
            await self.close()  # the next channel reads the TLS files again
            why = f"its gRPC port does not accept a connection within {self._connect_timeout_s:g} s"
            raise TritonUnavailableError(
                f"Triton cannot be reached: {why}. Nothing was run. Try again.", reason=why, retry_after_s=RETRY_AFTER_S
            ) from None
        return self._channel

    def _opened(self) -> grpc.aio.Channel:
        """A new channel, which connects in the background.

        Raises:
            TritonUnavailableError: a file of the TLS settings cannot be read.
        """
        if not self._is_tls:
            return grpc.aio.insecure_channel(self._address.netloc, options=_OPTIONS)
        access = self._access
        files = (access.ca_file, access.client_key_file or access.client_cert_file, access.client_cert_file)
        try:
            ca, key, certificate = (file.read_bytes() if file is not None else None for file in files)
        except OSError as error:
            raise unreachable(error, is_tls=True) from None
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        return grpc.aio.secure_channel(self._address.netloc, credentials, options=_OPTIONS)


async def _ended(call: grpc.aio.StreamStreamCall) -> None:
    """Wait for the end of a stream that failed: a cancellation just before it has crashed Triton 2.51."""
    with suppress(TimeoutError, grpc.aio.AioRpcError):
        async with asyncio.timeout(_END_S):
            async for _ in call:
                pass


def _tensors(response: service_pb2.ModelInferResponse, config: ModelConfig) -> dict[str, Tensor]:
    try:
        return grpc_codec.tensors(response, config)
    except (ValueError, KeyError, struct.error) as error:
        logger.error("model %s: a response of its stream cannot be read: %s", config.name, type(error).__name__)
        raise unreadable(config.name) from None


def _error(model: str, error: grpc.aio.AioRpcError) -> Exception:
    """The error for a call that failed. `TimeoutError`: the deadline passed.

    Triton's own errors are messages inside the stream. The header `triton_grpc_error` makes them statuses, but with it
    Triton 2.51 crashes at the first error of a decoupled model.
    """
    status, text = error.code(), error.details() or ""
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimeoutError(text)
    if status in _DENIED:
        return access_denied(_DENIED[status])
    if status is grpc.StatusCode.UNAVAILABLE:
        return lost()
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        logger.error("model %s: %s", model, text)
        return InferenceError(
            f"The model {model} returned a response of more than {MAX_MESSAGE_BYTES:,} bytes.", code=UNREADABLE
        )
    return rejection(model, text)
