# SPDX-License-Identifier: Apache-2.0
"""One request to Triton's `/generate_stream`: sends it, and reads its responses."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi_triton.core import sse_parser
from fastapi_triton.triton import generate_codec
from fastapi_triton.triton.error_mapping import failure, require_plain, unreadable
from fastapi_triton.triton.model_config import ModelConfig
from fastapi_triton.triton.model_health import ModelProcesses
from fastapi_triton.triton.tensor import Tensor
from fastapi_triton.triton.transport.connection import Connection
from fastapi_triton.triton.transport.errors import lost
from fastapi_triton.triton.transport.pool import ConnectionPool

logger = logging.getLogger(__name__)

# The headers of a request, as complete lines.
HEADERS = f"Accept: {sse_parser.MEDIA_TYPE}\r\nContent-Type: application/json\r\n"
_PIECE_BYTES = 512 * 1024
_EVENTS = sse_parser.MEDIA_TYPE.encode()
# The headers that define the end of a response. Without one, a truncated response looks complete.
_ENDS = frozenset((b"content-length", b"transfer-encoding"))


async def responses(
    pool: ConnectionPool, processes: ModelProcesses, head: bytes, body: bytes, config: ModelConfig, *, timeout_s: float
) -> AsyncGenerator[dict[str, Tensor], None]:
    """The outputs of each response. `head` is the request line and all headers but the body's length.

    Raises:
        TimeoutError: the model did not finish in time.
        FastAPITritonError: as `TritonClient.stream`.
    """
    head = head.removesuffix(b"\r\n") + b"Content-Length: %d\r\n\r\n" % len(body)
    # Closing the connection before the stream's end cancels the request.
    async with pool.exchange(timeout_s=timeout_s, is_cancelled_by_closing=True) as connection:
        with processes.running(config.name, connection):
            await _send(connection, head, body)
            async with aclosing(_events(connection, config.name)) as events:
                async for event in events:
                    yield generate_codec.response_tensors(event, config)


async def _events(connection: Connection, model: str) -> AsyncGenerator[bytes, None]:
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


async def _send(connection: Connection, head: bytes, body: bytes) -> None:
    """Send a large body in pieces, so that the event loop serves other requests meanwhile."""
    connection.start(head, body[:_PIECE_BYTES])
    for start in range(_PIECE_BYTES, len(body), _PIECE_BYTES):
        await connection.write(body[start : start + _PIECE_BYTES])
    connection.finish()
