# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Triton that takes hardly any CPU: one loaded model, and the same response to every inference."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httptools
import orjson

MODEL = "scribble_echo"
_INPUTS = (
    *(("prompt", "TYPE_STRING"), ("image", "TYPE_STRING"), ("conditioning_scale", "TYPE_FP32")),
    *(("negative_prompt", "TYPE_STRING"), ("seed", "TYPE_INT64"), ("num_inference_steps", "TYPE_INT32")),
    *(("guidance_scale", "TYPE_FP32"), ("control_guidance_start", "TYPE_FP32"), ("control_guidance_end", "TYPE_FP32")),
    *(("width", "TYPE_INT32"), ("height", "TYPE_INT32"), ("scheduler", "TYPE_STRING")),
    *(("output_format", "TYPE_STRING"), ("output_quality", "TYPE_INT32"), ("invert", "TYPE_STRING")),
    *(("receipt", "TYPE_STRING"), ("reproducible", "TYPE_BOOL")),
)
_NUM_REQUIRED = 3
_CONFIG = {
    "name": MODEL,
    "max_batch_size": 8,
    "input": [
        {"name": name, "data_type": datatype, "dims": [1], "optional": index >= _NUM_REQUIRED}
        for index, (name, datatype) in enumerate(_INPUTS)
    ],
    "output": [{"name": "generated_image", "data_type": "TYPE_STRING", "dims": [1]}],
}
# Statistics of a model that has run nothing yet.
_STATISTICS = {
    "name": MODEL,
    "version": "1",
    "execution_count": 0,
    "inference_stats": {"success": {"count": 0}, "fail": {"count": 0}},
}


def _response(body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), headers, body)


def _inference(image: bytes) -> bytes:
    """The response of a model with this text as output."""
    tensor = struct.pack("<I", len(image)) + image
    output = {"name": "generated_image", "datatype": "BYTES", "shape": [1, 1]}
    header = orjson.dumps(
        {
            "model_name": MODEL,
            "model_version": "1",
            "outputs": [{**output, "parameters": {"binary_data_size": len(tensor)}}],
        }
    )
    lines = b"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\n" % len(header)
    return _response(header + tensor, lines)


class _Connection(asyncio.Protocol):
    """One connection from the frontend."""

    def __init__(self, inference: bytes) -> None:
        self._inference = inference
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path = b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_message_complete(self) -> None:
        self._transport.write(self._answer())

    def _answer(self) -> bytes:
        if self._path.endswith(b"/infer"):
            return self._inference
        if self._path.endswith(b"/config"):
            return _response(orjson.dumps(_CONFIG))
        if self._path.endswith(b"/index"):
            return _response(orjson.dumps([{"name": MODEL, "version": "1", "state": "READY"}]))
        if self._path.endswith(b"/stats"):
            return _response(orjson.dumps({"model_stats": [_STATISTICS]}))
        return _response(b"{}")


@asynccontextmanager
async def upstream(image: bytes) -> AsyncIterator[str]:
    """Run the stand-in. Yields its URL."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(_inference(image)), "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.close()
