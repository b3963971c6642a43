# SPDX-License-Identifier: Apache-2.0
"""Streams of decoupled models over Triton's gRPC port, for those that `/generate_stream` cannot carry.

This module needs the extra `grpc`, so it is imported only if `triton_grpc_url` is set.
"""

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fastapi_triton.core.errors import InferenceError, TooLargeError, TritonUnavailableError
from fastapi_triton.core.request_record import Headers
from fastapi_triton.core.slot import current_slot
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
# Older versions of Triton (before 25.06) may crash if a client cancels a stream.
_CANCELLABLE = (2, 59)
# How long closing the channel waits for running streams.
_CLOSE_S = 2.0
# A stream that is read for longer after its client disconnected is logged.
_LONG_S = 60.0
_STILL_RUNS = (
    "model %s: a stream still runs %g s after its client disconnected, and holds its slot: a Triton before 25.06 may "
    "crash if it is cancelled"
)


class _Call:
    """One stream. As an `Exchange`, it can be ended from outside: `fail`."""

    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:
        self._call = call
        self._reading: asyncio.Future[Any] | None = None
        # Raised by `read` if the call was cancelled by another task. Closing the channel does that too.
        self._error: Exception = lost()

    @property
    def is_done(self) -> bool:
        return bool(self._call.done())

    def cancel(self) -> None:
        self._call.cancel()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._call.cancel()

    async def read(self, end: float) -> service_pb2.ModelStreamInferResponse | None:
        """The next response; None: the stream has ended.

        Raises:
            TimeoutError: the time `end` of the event loop's clock has passed.
            grpc.aio.AioRpcError: the call failed.
            FastAPITritonError: the call was ended from outside.
        """
        # Shielded, because cancelling a read cancels the call.
        self._reading = asyncio.ensure_future(self._call.read())
        try:
            async with asyncio.timeout_at(end):
                response = await asyncio.shield(self._reading)
        except asyncio.CancelledError:
            if self._reading.cancelled():
                raise self._error from None
            raise
        return None if response is grpc.aio.EOF else response

    async def drain(self) -> None:
        """Read the stream to its end."""
        with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            if self._reading is None or await self._reading is not grpc.aio.EOF:
                while await self._call.read() is not grpc.aio.EOF:
                    pass


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
        self._may_cancel: bool | None = None
        self._draining: set[asyncio.Future[None]] = set()

    async def close(self) -> None:
        """Close the channel. Streams that do not end soon are cancelled."""
        channel, self._channel, self._may_cancel = self._channel, None, None
        if channel is not None:
            await channel.close(_CLOSE_S)

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
        end = asyncio.get_running_loop().time() + timeout_s
        call = _Call(stub.ModelStreamInfer(iter([message]), metadata=metadata))
        try:
            with self._processes.running(config.name, call):
                while (response := await call.read(end)) is not None:
                    if response.error_message:
                        raise rejection(config.name, response.error_message)
                    yield _tensors(response.infer_response, config)
        except grpc.aio.AioRpcError as error:
            raise _error(config.name, error) from None
        finally:
            if not call.is_done:
                self._abandon(call, config.name)

    def _abandon(self, call: _Call, model: str) -> None:
        """Cancel a stream; of an old Triton, read it to its end. The request holds its slot until then."""
        if self._may_cancel:
            call.cancel()
            return
        slot = current_slot.get()
        draining = asyncio.ensure_future(call.drain())
        self._draining.add(draining)
        draining.add_done_callback(self._draining.discard)
        warning = asyncio.get_running_loop().call_later(_LONG_S, logger.warning, _STILL_RUNS, model, _LONG_S)
        draining.add_done_callback(lambda _: warning.cancel())
        if slot is not None and slot.is_taken:
            slot.hold()
            draining.add_done_callback(lambda _: slot.release(is_completed=False))

    def _credentials(self) -> Headers:
        """The configured headers and token; `Host` is the channel's."""
        lines = [line.partition(": ") for line in self._headers.lines().decode().splitlines()]
        return [(name.lower(), value) for name, _, value in lines if name.lower() != "host"]

    async def _connected(self) -> grpc.aio.Channel:
        """The channel, once it is connected.

        Raises:
            TritonUnavailableError: no connection in time.
        """
        channel = self._channel = self._channel or self._opened()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await channel.channel_ready()
        except (TimeoutError, grpc.aio.UsageError):  # UsageError: another stream has closed the channel
            if self._channel is channel:
                await self.close()  # the next channel reads the TLS files again
            why = f"its gRPC port does not accept a connection within {self._connect_timeout_s:g} s"
            raise TritonUnavailableError(
                f"Triton cannot be reached: {why}. Nothing was run. Try again.", reason=why, retry_after_s=RETRY_AFTER_S
            ) from None
        if self._may_cancel is None:
            self._may_cancel = await self._is_cancellable(channel)
        return channel

    async def _is_cancellable(self, channel: grpc.aio.Channel) -> bool | None:
        """Whether Triton's version is new enough; None: it is unknown."""
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ServerMetadataRequest()
        try:
            server = await stub.ServerMetadata(request, metadata=self._credentials(), timeout=self._connect_timeout_s)
            major, minor, *_ = server.version.split(".")
            return (int(major), int(minor)) >= _CANCELLABLE
        except (grpc.aio.AioRpcError, ValueError):
            return None

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


def _tensors(response: service_pb2.ModelInferResponse, config: ModelConfig) -> dict[str, Tensor]:
    try:
        return grpc_codec.tensors(response, config)
    except (ValueError, KeyError, struct.error) as error:
        logger.error("model %s: a response of its stream cannot be read: %s", config.name, type(error).__name__)
        raise unreadable(config.name) from None


def _error(model: str, error: grpc.aio.AioRpcError) -> Exception:
    """The error for a call that failed.

    Triton's own errors are messages inside the stream. The header `triton_grpc_error` makes them statuses, but with it
    Triton 2.51 crashes at the first error of a decoupled model.
    """
    status, text = error.code(), error.details() or ""
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
