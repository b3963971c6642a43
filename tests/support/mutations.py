# SPDX-License-Identifier: Apache-2.0
"""Mutates valid bodies, reproducibly by seed: bytes, JSON values, picture files, forms."""

import base64
import json
import random
from typing import Any

from support.paths import ROOT
from support.scribble_app import picture

PICTURES = [
    *(picture(name) for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")),
    *(
        (ROOT / "tests" / "data" / "scribbles" / name).read_bytes()
        for name in ("tiny-20px.png", "palette-transparent.png", "animated.gif", "grey-16-bit.png")
    ),
]
TOKENS = (
    b"NaN", b"-Infinity", b"1e999", b"-0", b"99999999999999999999999", b"null", b"true", b'"\\ud800"', b"\xff\xfe",
    b"\x00", b"\r\n\r\n", b"{", b"}", b"[" * 500, b'{"a":' * 200, b'"', b"\\", b"data:image/png;base64,", b"=", b"--",
    b"\xef\xbb\xbf", b"Content-Disposition: form-data; name=", b"\xf0\x9f\x96\xbc", b"\xed\xa0\x80", b"0" * 300,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**63, -(2**63) - 1, 1e308, "", "x", "\x00", "9" * 400, "NaN", "\u202e", "😀" * 50,
    [], {}, [[]], [None], {"": None}, [1, "a", {}], {"b64": "", "shape": [-1], "dtype": "FP32"}, {"npy": "AAAA"},
    "data:image/png;base64,AAAA", "data:,x", "AAAA", "====", "image/png", "1024x1024", "auto", "http://127.0.0.1/",
)  # fmt: skip
FORM_TYPE = "multipart/form-data; boundary=fuzz"


def bytes_of(chance: random.Random, data: bytes) -> bytes:
    """The bytes with a few changes, or parts of them."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 12))):
        at = chance.randrange(len(changed) + 1)
        to = min(len(changed), at + chance.choice((1, 1, 2, 4, 16, 200)))
        match chance.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at:to] = b""
            case 2:
                changed[at:at] = changed[at:to]
            case 3:
                changed[at:at] = chance.choice(TOKENS)
            case 4:
                changed[at:to] = chance.choice(TOKENS)
            case 5:
                changed[at:to] = chance.randbytes(to - at)
            case _ if chance.random() < 0.3:
                del changed[at:]
    return bytes(changed)


def picture_file(chance: random.Random) -> bytes:
    """A damaged picture file. Most damage is in its header, which has more structure."""
    data = chance.choice(PICTURES)
    if chance.random() < 0.6:
        return bytes_of(chance, data[:80]) + data[80:]
    return bytes_of(chance, data)


def value(chance: random.Random, original: Any) -> Any:
    """A JSON value with a part replaced, removed, doubled or wrapped."""
    if isinstance(original, dict) and original and chance.random() < 0.85:
        changed = dict(original)
        name = chance.choice(list(changed))
        match chance.randrange(6):
            case 0:
                del changed[name]
            case 1:
                changed[name + chance.choice(("", "_", " ", "\x00", "s"))] = chance.choice(VALUES)
            case 2:
                changed[chance.choice(("", "class", "prompt", "model", "n", "size", "inputs"))] = chance.choice(VALUES)
            case _:
                changed[name] = value(chance, changed[name])
        return changed
    if isinstance(original, list) and original and chance.random() < 0.7:
        at = chance.randrange(len(original))
        return [*original[:at], value(chance, original[at]), *original[at + chance.randrange(2) :]]
    match chance.randrange(5):
        case 0:
            return [original]
        case 1:
            return {"value": original}
        case 2 if isinstance(original, str):
            return bytes_of(chance, original[:2000].encode()).decode("utf-8", "replace")
        case 3 if isinstance(original, str):
            return base64.b64encode(picture_file(chance)).decode()
        case _:
            return chance.choice(VALUES)


def json_body(chance: random.Random, original: Any) -> bytes:
    """A JSON body with changed values, changed bytes, or both."""
    for _ in range(chance.randrange(3)):
        original = value(chance, original)
    data = json.dumps(original, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    return bytes_of(chance, data) if chance.random() < 0.5 else data


def form_body(chance: random.Random, fields: dict[str, Any]) -> bytes:
    """A multipart form; a picture goes as a file."""
    parts = []
    for name, original in fields.items():
        is_file = chance.random() < 0.2 or name.startswith("image")
        content = picture_file(chance) if is_file else str(original).encode("utf-8", "replace")
        if is_file and chance.random() < 0.3:
            content = base64.b64encode(content)
        head = f'Content-Disposition: form-data; name="{name}"' + ('; filename="a.png"' if is_file else "")
        parts.append(b"--fuzz\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n")
    if chance.random() < 0.3:
        chance.shuffle(parts)
    if parts and chance.random() < 0.2:
        parts.append(chance.choice(parts))
    data = b"".join(parts) + b"--fuzz--\r\n"
    return bytes_of(chance, data) if chance.random() < 0.7 else data
