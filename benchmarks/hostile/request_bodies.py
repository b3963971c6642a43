# SPDX-License-Identifier: Apache-2.0
"""Attacks with one request each: bodies up to the size limit that are slow to parse."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.hostile.app import PATH

MB = 1024 * 1024
LIMIT = 20 * MB
JSON, FORM = "application/json", "multipart/form-data; boundary=B"
_PART = b'--B\r\nContent-Disposition: form-data; name="%b"\r\n\r\n'
_FILE = b'--B\r\nContent-Disposition: form-data; name="%b"; filename="a"\r\n\r\n'
_END = b"\r\n--B--\r\n"


@dataclass(frozen=True, slots=True)
class Body:
    """One request."""

    name: str
    path: str
    data: bytes
    media_type: str = JSON


def _filled(start: bytes, piece: bytes, end: bytes, size: int = LIMIT) -> bytes:
    return start + piece * ((size - len(start) - len(end)) // len(piece)) + end


def _picture(data: bytes) -> bytes:
    return json.dumps({"prompt": "x", "image": base64.b64encode(data).decode()}).encode()


def _texts() -> Iterator[Body]:
    yield Body("a text of 20 MB", PATH, _filled(b'{"prompt":"', b"x", b'"}'))
    yield Body("a text of escapes", PATH, _filled(b'{"prompt":"', b"\\u0041", b'"}'))
    yield Body("a text of surrogates", PATH, _filled(b'{"prompt":"', b"\\ud83d\\ude00", b'"}'))
    yield Body("a text of emoji", PATH, _filled(b'{"prompt":"', "😀".encode(), b'"}'))
    yield Body("a text with one emoji", PATH, _filled(b'{"prompt":"' + "😀".encode(), b"x", b'"}'))
    yield Body("a field of any length with one emoji", PATH, _filled(b'{"scheduler":"' + "😀".encode(), b"x", b'"}'))
    yield Body("white space", PATH, _filled(b'{"prompt":', b" ", b'"x"}'))
    yield Body("a number of 20 MB", PATH, _filled(b'{"seed":', b"9", b"}"))
    yield Body("a key of 20 MB", PATH, _filled(b'{"', b"k", b'":1}'))
    yield Body("a key of 20 MB, A1111", "/sdapi/v1/txt2img", _filled(b'{"', b"k", b'":1}'))
    yield Body("a key of 20 MB, OpenAI", "/v1/images/generations", _filled(b'{"', b"k", b'":1}'))
    yield Body("20 MB that are not JSON", PATH, _filled(b"", b"x", b""))
    yield Body("nested brackets", PATH, _filled(b'{"seed":', b"[", b"}"))


def _many() -> Iterator[Body]:
    def keys(num: int, length: int) -> bytes:
        return b",".join(b'"k%d%b":1' % (number, b"x" * length) for number in range(num))

    yield Body("9,990 unknown keys", PATH, b"{" + keys(9990, 0) + b"}")
    yield Body("9,990 long unknown keys", PATH, b"{" + keys(9990, 1900) + b"}")
    yield Body("9,990 keys twice", PATH, b"{" + b",".join([b'"prompt":"x"'] * 9990) + b"}")
    yield Body(
        "9,990 override settings", "/sdapi/v1/txt2img", b'{"prompt":"","override_settings":{' + keys(9990, 1900) + b"}}"
    )
    yield Body("9,990 options", "/sdapi/v1/options", b"{" + keys(9990, 1900) + b"}")
    yield Body("commas in a text", PATH, _filled(b'{"prompt":"', b",", b'"}'))
    for what, value in (
        ("numbers", b"1.5"),
        ("long numbers", b"1.234567890123456"),
        ("wrong types", b"[]"),
        ("objects", b"{}"),
    ):
        yield Body(f"999,990 {what}", "/models/numbers/infer", b'{"values":[' + b",".join([value] * 999_990) + b"]}")
    yield Body("499,990 lists", "/models/numbers/infer", b'{"values":[' + b",".join([b"[]"] * 499_990) + b"]}")
    different = b",".join(b'"%d"' % number for number in range(999_990))
    yield Body("999,990 different texts", "/models/texts/infer", b'{"values":[' + different + b"]}")
    yield Body("999,990 texts", "/models/texts/infer", b'{"values":[' + b",".join([b'"a"'] * 999_990) + b"]}")
    yield Body("999,990 wrong texts", "/models/texts/infer", b'{"values":[' + b",".join([b"1"] * 999_990) + b"]}")
    yield Body("999,990 rows", "/models/numbers/infer", b"[" + b",".join([b"1"] * 999_990) + b"]")
    for num in (99_990, 999_990):
        keyed = b",".join(b'"%d":1' % number for number in range(num))
        yield Body(f"{num:,} keys", "/models/numbers/infer", b"{" + keyed + b"}")
    yield Body("pairs of brackets", "/models/numbers/infer", _filled(b'{"values":', b"[", b"", 999_990))


def _pictures() -> Iterator[Body]:
    yield Body("base64 that is not a picture", PATH, _filled(b'{"prompt":"x","image":"', b"A", b'"}'))
    yield Body("base64 with line breaks", PATH, _filled(b'{"prompt":"x","image":"', b"AAA\\n", b'"}'))
    yield Body("base64 of line breaks", PATH, _filled(b'{"prompt":"x","image":"', b"\\n", b'"}'))
    yield Body("JPEG of empty segments", PATH, _picture(_filled(b"\xff\xd8", b"\xff\xe1\x00\x02", b"", 15 * MB)))
    yield Body("JPEG of padding", PATH, _picture(_filled(b"\xff\xd8", b"\xff", b"", 15 * MB)))
    gif = b"GIF89a\x01\x00\x01\x00\x00\x00\x00"
    yield Body("GIF of empty extensions", PATH, _picture(_filled(gif, b"\x21\xfe\x00", b"", 15 * MB)))


def _forms() -> Iterator[Body]:
    text, file = _PART % b"prompt", _FILE % b"image"
    yield Body("form: a file of 20 MB", PATH, _filled(file, b"\0", _END), FORM)
    yield Body("form: line breaks", PATH, _filled(text, b"\r\n", _END), FORM)
    yield Body("form: near-boundaries", PATH, _filled(text, b"\r\n--A", _END), FORM)
    long = b"B" * 60
    start = b"--" + long + _PART[3:] % b"prompt"
    data = _filled(start, b"\r\n--" + long[:-1] + b"A", b"\r\n--" + long + b"--\r\n")
    yield Body("form: long near-boundaries", PATH, data, f"multipart/form-data; boundary={long.decode()}")
    yield Body("form: parts", PATH, _filled(b"", _PART % b"a" + b"\r\n", b"--B--\r\n"), FORM)
    yield Body("form: headers of parts", PATH, _filled(b"--B\r\n", b"a: b\r\n", b"\r\n\r\n--B--\r\n"), FORM)
    yield Body("form: a long header", PATH, _filled(b"--B\r\na: ", b"b", b"\r\n\r\n\r\n--B--\r\n"), FORM)
    yield Body("form: preamble", PATH, _filled(b"", b"\r\n", b"--B--\r\n"), FORM)
    yield Body("form: OpenAI edits", "/v1/images/edits", _filled(text, b"\r\n", _END), FORM)


def every() -> list[Body]:
    return [*_texts(), *_many(), *_pictures(), *_forms()]
