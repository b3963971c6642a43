# SPDX-License-Identifier: Apache-2.0
"""Forms that are cut off, malformed or in odd charsets are rejected with a reason. Valid forms arrive unchanged."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

import main
from fastapi_triton import Base64Image, Settings
from fastapi_triton.endpoints import images
from fastapi_triton.endpoints.request_body import validation
from fastapi_triton.testing import FakeTriton
from support.picture_app import client_of, triton_of
from support.scribble_app import PATH, base64_picture, picture
from support.scripted_stream_model import ScriptedStreamModel, app_of

EDITS = "/v1/images/edits"
FORM = "multipart/form-data; boundary=BBB"
END = b"--BBB--\r\n"


def part(name: str, value: str | bytes, *, file: str = "", headers: str = "") -> bytes:
    file_name = f'; filename="{file}"' if file else ""
    head = f'--BBB\r\nContent-Disposition: form-data; name="{name}"{file_name}\r\n{headers}\r\n'.encode()
    return head + (value if isinstance(value, bytes) else value.encode()) + b"\r\n"


SKETCH = part("image", picture(), file="h.png")
GOOD = part("prompt", "a cat") + SKETCH


@pytest.fixture
async def triton() -> FakeTriton:
    return triton_of(ScriptedStreamModel())


@pytest.fixture
async def client(triton: FakeTriton) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app_of(triton, Settings(max_in_flight=4))) as each:
        yield each


def last_input(triton: FakeTriton, name: str) -> Any:
    """The one value of this input in the model's last request."""
    value = triton.requests[-1][1][name].item()
    return value.decode() if isinstance(value, bytes) else value


async def post(client: httpx2.AsyncClient, path: str, body: bytes, content_type: str | bytes = FORM) -> tuple[str, str]:
    """The code of the response, or "ok", and its `detail`."""
    response = await client.post(path, content=body, headers={"Content-Type": content_type})
    if response.status_code == 200:
        return "ok", ""
    error = response.json()
    error = error["error"] if isinstance(error.get("error"), dict) else error
    detail = error.get("detail") or error["message"]
    assert len(detail) < 600
    assert response.status_code == {"invalid_form": 400, "unsupported_media_type": 415}.get(
        error["code"], 422 if path == PATH else 400
    )
    return error["code"], detail


INCOMPLETE: list[tuple[bytes, str | bytes, str]] = [
    (GOOD + part("seed", "7"), FORM, "ends before its closing boundary"),
    (GOOD + part("seed", "77777")[:-4], FORM, "ends before its closing boundary"),
    (GOOD + part("seed", "7") + b"--BB", FORM, "ends before its closing boundary"),
    (GOOD + b"--BBB", FORM, "ends before its closing boundary"),
    (GOOD[:40], FORM, "ends before its closing boundary"),
    (b"", FORM, "ends before its closing boundary"),
    (GOOD + END + part("seed", "5"), FORM, "has data after its closing boundary"),
    (GOOD + END + b"junk", FORM, "has data after its closing boundary"),
    (GOOD + END + part("seed", "5") + END, FORM, "has data after its closing boundary"),
    (END + GOOD + END, FORM, "has data after its closing boundary"),
    (GOOD + END, "multipart/form-data", "no boundary"),
    (GOOD + END, "multipart/form-data; boundary=", "no boundary"),
    (GOOD + END, "multipart/form-data; boundary=XXX", ""),
    (GOOD + END, "multipart/form-data; boundary=" + "B" * 10_000, ""),
    (GOOD + END, b"multipart/form-data; boundary=\xff\xfe", ""),
    (b"hello", FORM, ""),
    (b"preamble\r\n" + GOOD + END, FORM, ""),
    ((GOOD + END).replace(b"\r\n", b"\n"), FORM, ""),
    (b"--BBB\r\nX: y\r\n\r\nx\r\n" + GOOD + END, FORM, "has no `name`"),
    (b"--BBB\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + GOOD + END, FORM, "has no `name`"),
    (b"--BBB\r\nContent-Disposition: form-data; name*=UTF-8''prompt\r\n\r\nx\r\n" + END, FORM, "has no `name`"),
    (b'--BBB\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n' + END, FORM, "has no `name` in UTF-8"),
    (b"".join(part(f"f{number}", "x") for number in range(100)) + GOOD + END, FORM, "parts"),
    (part("prompt", "x", headers="X: " + "y" * 50_000 + "\r\n") + SKETCH + END, FORM, ""),
    (
        part("prompt", "YQ==", headers="Content-Transfer-Encoding: base64\r\n") + SKETCH + END,
        FORM,
        "Content-Transfer-Encoding base64",
    ),
    (
        part("prompt", "=41", headers="Content-Transfer-Encoding: quoted-printable\r\n") + SKETCH + END,
        FORM,
        "Content-Transfer-Encoding quoted-printable",
    ),
]


@pytest.mark.parametrize("path", [PATH, EDITS])
async def test_incomplete_form_is_unreadable(client: httpx2.AsyncClient, triton: FakeTriton, path: str) -> None:
    for body, content_type, text in INCOMPLETE:
        code, detail = await post(client, path, body, content_type)
        assert code == "invalid_form", (body[:100], detail)
        assert text in detail
    assert not triton.requests


ODD_CHARSETS = [
    "punycode",
    "idna",
    "undefined",
    "unicode_escape",
    "raw_unicode_escape",
    "utf-7",
    "utf-16",
    "rot13",
    "base64",
    "hex",
    "zlib",
    "mbcs",
    "cp65001",
    "../../x",
    "a" * 5000,
]


@pytest.mark.parametrize("path", [PATH, EDITS])
async def test_odd_charset_is_rejected(client: httpx2.AsyncClient, triton: FakeTriton, path: str) -> None:
    for charset in ODD_CHARSETS:
        of_part = f"Content-Type: text/plain; charset={charset[:500]}\r\n"
        for body, content_type in (
            (GOOD, f"{FORM}; charset={charset}"),
            (part("_charset_", charset) + GOOD, FORM),
            (part("prompt", "a cat", headers=of_part) + SKETCH, FORM),
            (part("prompt", "a cat", file="p.txt", headers=of_part) + SKETCH, FORM),
        ):
            code, detail = await post(client, path, body + END, content_type)
            assert code == "unsupported_media_type", (charset, detail)
            assert "UTF-8" in detail
    assert not triton.requests


IN_A_CHARSET: list[tuple[bytes, str]] = [
    (part("prompt", "né", headers="Content-Type: text/plain; charset=UTF-8\r\n"), FORM),
    (part("prompt", b"n\xe9", headers='Content-Type: text/plain; charset="iso-8859-1"\r\n'), FORM),
    (part("prompt", b"n\xe9"), FORM + "; charset=ISO-8859-1"),
    (part("prompt", b"n\xe9") + part("_charset_", "latin1"), FORM),
    (part("prompt", "né", headers="Content-Transfer-Encoding: 8bit\r\n"), FORM),
    (part("prompt", "né", file="p.txt"), FORM),
    (part("prompt", "né".encode("utf-8-sig"), file="p.txt"), FORM),
    (part("prompt", b"n\xe9", file="p.txt", headers="Content-Type: text/plain; charset=latin-1\r\n"), FORM),
    (part("prompt", "né"), 'multipart/form-data; boundary="BBB"'),
]


@pytest.mark.parametrize("path", [PATH, EDITS])
async def test_text_is_decoded_with_its_charset(client: httpx2.AsyncClient, triton: FakeTriton, path: str) -> None:
    for body, content_type in IN_A_CHARSET:
        assert await post(client, path, body + SKETCH + END, content_type) == ("ok", "")
        assert last_input(triton, "prompt") == "né"


@pytest.mark.parametrize("path", [PATH, EDITS])
async def test_text_that_is_not_utf_8_is_rejected(client: httpx2.AsyncClient, triton: FakeTriton, path: str) -> None:
    for file in ("", "p.txt"):
        code, detail = await post(client, path, part("prompt", b"n\xe9", file=file) + SKETCH + END)
        assert code == "invalid_text"
        assert "`prompt`" in detail
        assert "UTF-8" in detail
    assert not triton.requests


@pytest.mark.parametrize("path", [PATH, EDITS])
async def test_text_file_becomes_the_text(client: httpx2.AsyncClient, triton: FakeTriton, path: str) -> None:
    body = part("prompt", "a red house\n", file="p.txt") + part("num_inference_steps", "3", file="s.txt") + SKETCH
    assert await post(client, path, body + END) == ("ok", "")
    assert last_input(triton, "prompt") == "a red house\n"
    assert last_input(triton, "num_inference_steps") == 3


@pytest.mark.parametrize("path", [PATH, EDITS])
async def test_picture_is_a_file_or_base64_text(client: httpx2.AsyncClient, triton: FakeTriton, path: str) -> None:
    with_extended_name = (
        b"--BBB\r\nContent-Disposition: form-data; name=\"image\"; filename*=UTF-8''h%20%C3%A9.png\r\n\r\n"
        + picture()
        + b"\r\n"
    )
    for image in (SKETCH, part("image", base64_picture()), with_extended_name):
        assert await post(client, path, part("prompt", "x") + image + END) == ("ok", "")
        assert last_input(triton, "image") == base64_picture()


@pytest.mark.parametrize("path", [PATH, EDITS])
async def test_repeated_field_is_rejected(client: httpx2.AsyncClient, triton: FakeTriton, path: str) -> None:
    # An edit may have two images.
    more = (SKETCH,) if path == PATH else (part("mask", picture(), file="m.png") * 2,)
    for again in (part("prompt", "a dog"), part("prompt", "a dog", file="p.txt"), *more):
        code, _ = await post(client, path, GOOD + again + END)
        assert code == "repeated_field"
    assert not triton.requests


@pytest.mark.parametrize("path", [PATH, EDITS])
async def test_error_names_an_unknown_file_field(client: httpx2.AsyncClient, triton: FakeTriton, path: str) -> None:
    code, detail = await post(client, path, GOOD + part("image[0]", picture(), file="b.png") + END)
    assert (code, "`image[0]`" in detail) == ("unknown_field", True)
    assert not triton.requests


async def test_form_may_end_with_white_space(client: httpx2.AsyncClient) -> None:
    assert await post(client, PATH, GOOD + END + b" \r\n" * 2000) == ("ok", "")
    assert await post(client, PATH, GOOD + END.rstrip(), FORM + "; charset=") == ("ok", "")


async def test_both_names_of_the_scribble_field_at_once_are_rejected(
    client: httpx2.AsyncClient, triton: FakeTriton
) -> None:
    both = GOOD + part("image[]", picture("JPEG"), file="b.jpg") + END
    assert (await post(client, EDITS, both))[0] == "unknown_field"
    content = {"prompt": "a", "image": base64_picture(), "image[]": base64_picture("JPEG")}
    response = await client.post(EDITS, json=content)
    assert response.json()["error"]["code"] == "unknown_field"
    assert not triton.requests


def test_file_in_an_optional_picture_field_is_a_picture() -> None:
    class Request(BaseModel):
        prompt: str
        image: Base64Image | None = None

    assert validation._picture_names(Request, images.holds_picture) == {"image"}
    assert validation._picture_names(main.ScribbleRequest, images.holds_picture) == {"image", "init_image", "mask"}
