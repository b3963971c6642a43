# SPDX-License-Identifier: Apache-2.0
"""Request bodies with a scribble as base64 of a given length, as JSON for a frontend and in Triton's protocol."""

import random
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import orjson
import pybase64
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

MODEL = "scribble_echo"
PROMPT = "a red house in the snow"
SIZES = {"16K": 16_384, "256K": 262_144, "1.4M": 1_398_104}


def picture(num_characters: int) -> str:
    """Base64 text of exactly this length: a PNG header, then random bytes."""
    size = num_characters // 4 * 3
    header = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1024, 1024, 8, 2, 0, 0, 0))
    num_pixel_bytes = size - len(header) - 12
    noise = random.Random(num_characters).randbytes(num_pixel_bytes)  # noqa: S311
    return pybase64.b64encode(header + _chunk(b"IDAT", noise)).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _v2_json(image: str) -> bytes:
    """A `/v2` body with the tensors in JSON. It requests a binary response, like the other peers."""
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": datatype, "data": [value]}
        for name, datatype, value in (
            ("prompt", "BYTES", PROMPT),
            ("image", "BYTES", image),
            ("conditioning_scale", "FP32", 0.8),
        )
    ]
    outputs = [{"name": "generated_image", "parameters": {"binary_data": True}}]
    return orjson.dumps({"inputs": inputs, "outputs": outputs})


@dataclass(frozen=True, slots=True)
class Payload:
    """A request body for each protocol, and the picture that each response must contain."""

    image: str
    json_body: bytes
    v2_body: bytes
    v2_header_length: int
    v2_json_body: bytes

    @classmethod
    def of(cls, num_characters: int) -> "Payload":
        image = picture(num_characters)
        body = orjson.dumps({"prompt": PROMPT, "image": image, "conditioning_scale": 0.8})
        inputs = []
        for name, datatype, array in (
            ("prompt", "BYTES", np.array([[PROMPT.encode()]], dtype=np.object_)),
            ("image", "BYTES", np.array([[image.encode()]], dtype=np.object_)),
            ("conditioning_scale", "FP32", np.array([[0.8]], dtype=np.float32)),
        ):
            inputs.append(InferInput(name, [1, 1], datatype))
            inputs[-1].set_data_from_numpy(array)
        outputs = [InferRequestedOutput("generated_image", binary_data=True)]
        v2_body, header_length = InferenceServerClient.generate_request_body(inputs, outputs=outputs)
        return cls(image, body, v2_body, int(header_length or 0), _v2_json(image))

    def http_request(self, path: str, *, is_v2: bool, is_json: bool = False) -> bytes:
        """The complete HTTP request."""
        is_binary = is_v2 and not is_json
        body = self.v2_body if is_binary else self.v2_json_body if is_v2 else self.json_body
        head = [
            f"POST {path} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Content-Type: {'application/octet-stream' if is_binary else 'application/json'}",
            f"Content-Length: {len(body)}",
        ]
        if is_binary:
            head.append(f"Inference-Header-Content-Length: {self.v2_header_length}")
        return "\r\n".join([*head, "", ""]).encode() + body

    def is_in(self, body: bytes, *, is_v2: bool) -> bool:
        """Whether the body of a response contains exactly the picture."""
        if is_v2:
            return body.endswith(struct.pack("<I", len(self.image)) + self.image.encode())
        return bool(orjson.loads(body) == {"generated_image": self.image})
