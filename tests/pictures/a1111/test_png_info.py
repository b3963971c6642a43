# SPDX-License-Identifier: Apache-2.0
"""A1111's infotext in picture files and responses, and `png-info`, which reads it from any file."""

import base64
import io
import json
import struct
import tracemalloc
import zlib
from typing import Any

import httpx2
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from fastapi_triton.pictures.a1111 import infotext, png_info
from fastapi_triton.testing import FakeTriton
from support.scribble_app import base64_picture, picture
from support.scripted_stream_model import ScriptedStreamModel, stream_inputs

TXT2IMG, PNG_INFO = "/sdapi/v1/txt2img", "/sdapi/v1/png-info"
PROMPT = {"prompt": "a red house", "seed": 4, "steps": 9}


def with_texts(*chunks: tuple[bytes, bytes]) -> str:
    """A PNG in base64 with further chunks, by type and content, after its header."""
    plain = picture()
    added = b"".join(
        struct.pack(">I", len(content)) + kind + content + zlib.crc32(kind + content).to_bytes(4)
        for kind, content in chunks
    )
    return base64.b64encode(plain[:33] + added + plain[33:]).decode()


async def read(client: httpx2.AsyncClient, image: str) -> dict[str, Any]:
    response = await client.post(PNG_INFO, json={"image": image})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


@pytest.mark.parametrize("prompt", ["a red house", "a röd house", "a 家, at\nnight: <lora:x:0.5>"])
async def test_files_and_responses_have_a1111s_infotext(
    client: httpx2.AsyncClient, stream_model: ScriptedStreamModel, prompt: str
) -> None:
    fields = {
        "prompt": prompt,
        "negative_prompt": "blurry",
        "n_iter": 2,
        "cfg_scale": 2.5,
        "width": 128,
        "height": 128,
        "sampler_name": "DPM++ 2M",
        "scheduler": "Karras",
        "override_settings": {"CLIP_stop_at_last_layers": 3},
        "alwayson_scripts": {"controlnet": {"args": [{"image": base64_picture(), "weight": 0.5}]}},
    }
    body = (await client.post(TXT2IMG, json=PROMPT | fields)).json()
    info = json.loads(body["info"])
    assert (info["sampler_name"], info["extra_generation_params"]) == ("DPM++ 2M", {"Schedule type": "Karras"})
    for index, (image, text) in enumerate(zip(body["images"], info["infotexts"], strict=True)):
        opened = Image.open(io.BytesIO(base64.b64decode(image)))
        assert opened.info["parameters"] == text
        assert text == (
            f"{prompt}\nNegative prompt: blurry\nSteps: 9, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 2.5, "
            f"Seed: {4 + index}, Size: 128x128, Clip skip: 3, "
            'ControlNet 0: "Module: none, Weight: 0.5, Resize Mode: Resize and Fill, Guidance Start: 0.0, '
            'Guidance End: 1.0, Control Mode: Balanced"'
        )
        found = await read(client, image)
        assert (found["info"], found["items"]) == (text, {})
        assert found["parameters"] == {
            "Prompt": prompt,
            "Negative prompt": "blurry",
            "Steps": "9",
            "Sampler": "DPM++ 2M",
            "Schedule type": "Karras",
            "CFG scale": "2.5",
            "Seed": str(4 + index),
            "Size-1": "128",
            "Size-2": "128",
            "Clip skip": "3",
            "ControlNet 0": text.rpartition(': "')[2].removesuffix('"'),
        }


async def test_the_pixels_and_the_models_own_texts_stay(
    client: httpx2.AsyncClient, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = with_texts((b"tEXt", b'fastapi-triton\0{"made_by": "fastapi-triton"}'))
    monkeypatch.setattr("support.scribble_app.base64_picture", lambda *_: receipt)
    (image,) = (await client.post(TXT2IMG, json=PROMPT)).json()["images"]
    found = await read(client, image)
    assert found["items"] == {"fastapi-triton": '{"made_by": "fastapi-triton"}'}
    data, without = base64.b64decode(image), base64.b64decode(receipt)
    length = 12 + int.from_bytes(data[33:37])
    assert data[:33] + data[33 + length :] == without


async def test_a_client_can_omit_the_texts(client: httpx2.AsyncClient, triton: FakeTriton) -> None:
    body = (await client.post(TXT2IMG, json=PROMPT | {"override_settings": {"enable_pnginfo": "false"}})).json()
    assert (stream_inputs(triton)[-1]["receipt"], body["notes"]) == ("none", [])
    assert (await read(client, body["images"][0]))["info"] == ""


@pytest.mark.parametrize("receipt", ["no_prompt", "none"])
async def test_files_have_no_prompt_if_the_operators_receipts_have_none(
    client: httpx2.AsyncClient, stream_model: ScriptedStreamModel, receipt: str
) -> None:
    stream_model.further_description = {"defaults": {"receipt": receipt}}
    body = (await client.post(TXT2IMG, json=PROMPT)).json()
    assert (await read(client, body["images"][0]))["info"] == ""


async def test_texts_of_each_kind_are_read(client: httpx2.AsyncClient) -> None:
    text = "a house\nSteps: 9, Sampler: Euler, Seed: 4"
    utf_8, latin_1 = "家".encode(), "é".encode("latin-1")
    found = await read(
        client,
        with_texts(
            (b"tEXt", b"parameters\0" + text.encode()),
            (b"tEXt", b"Author\0" + latin_1),
            (b"zTXt", b"Title\0\0" + zlib.compress(latin_1)),
            (b"iTXt", b"Comment\0\0\0en\0Kommentar\0" + utf_8),
            (b"iTXt", b"Source\0\1\0\0\0" + zlib.compress(utf_8)),
        ),
    )
    assert found["info"] == text
    assert found["items"] == {"Author": "é", "Title": "é", "Comment": "家", "Source": "家"}
    assert found["parameters"]["Seed"] == "4"


async def test_exif_of_other_formats_is_read(client: httpx2.AsyncClient) -> None:
    for comment, expected in (
        (
            b"UNICODE\0" + "a 家\nSteps: 9, Seed: 4, Size: 8x8".encode("utf-16-be"),
            ("a 家\nSteps: 9, Seed: 4, Size: 8x8", {}),
        ),
        (b'ASCII\0\0\0{"made_by": "x"}', ("", {"fastapi-triton": '{"made_by": "x"}'})),
        (b"\xff\xfe", ("", {})),
        (b"UNICODE\0\0", ("\ufffd", {})),
    ):
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
        for image_format in ("JPEG", "WEBP"):
            file = io.BytesIO()
            Image.new("RGB", (8, 8)).save(file, image_format, exif=exif)
            found = await read(client, base64.b64encode(file.getvalue()).decode())
            assert (found["info"], found["items"]) == expected


def test_an_infotext_is_read_as_a1111_reads_it() -> None:
    text = (
        "a house, at night: dark\nof wood\nNegative prompt: blurry,\nugly\n"
        'Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 4, Size: 512x768, Model: "a, \\"b\\": c", '
        'Lora hashes: "x: 0123, y: 4567", Version: v1.10.1'
    )
    assert infotext.read(text) == {
        "Prompt": "a house, at night: dark\nof wood",
        "Negative prompt": "blurry,\nugly",
        "Steps": "20",
        "Sampler": "DPM++ 2M Karras",
        "CFG scale": "7",
        "Seed": "4",
        "Size-1": "512",
        "Size-2": "768",
        "Model": 'a, "b": c',
        "Lora hashes": "x: 0123, y: 4567",
        "Version": "v1.10.1",
    }
    assert infotext.read("only: a prompt") == {"Prompt": "only: a prompt", "Negative prompt": ""}
    assert infotext.read("Negative prompt: x\nSteps: 1, Seed: 2, Size: 3x4")["Negative prompt"] == "x"
    model = 'x, "y": \\ z\n'
    assert infotext.read(infotext.write("p", "", {"Model": model, "Seed": 1, "Steps": 2}))["Model"] == model


# ---- hostile files and texts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        ":" * 500_000,
        'a: "' * 200_000,
        "a" * 900_000,
        "a:" + " " * 500_000,
        '"\\' * 300_000,
        "a: b, " * 100_000,
    ],
    ids=range(8),
)
def test_a_hostile_infotext_takes_bounded_work(text: str) -> None:
    found = infotext.read(text)
    assert len(found) <= 202
    assert len(infotext.read(f"a\n{text[:60_000]}")) <= 202


async def test_hostile_chunks_are_skipped(client: httpx2.AsyncClient) -> None:
    bomb = zlib.compress(bytes(100_000_000))
    for chunks in (
        [(b"zTXt", b"parameters\0\0" + bomb)],
        [(b"iTXt", b"parameters\0\1\0\0\0" + bomb)],
        [(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(1000))[:-9])],
        [(b"zTXt", b"parameters\0\0no zlib"), (b"zTXt", b"parameters\0"), (b"zTXt", b"")],
        [(b"iTXt", b"parameters\0\0\0en"), (b"iTXt", b"parameters\0\1"), (b"iTXt", b"parameters")],
        [(b"tEXt", b"no separator"), (b"tEXt", b"x" * 100_000 + b"\0a long keyword")],
        [(b"tEXt", b"\0")] * 1000,
    ):
        found = await read(client, with_texts(*chunks))
        assert (found["info"], found["parameters"]) == ("", {})
        assert len(found["items"]) <= 1


async def test_the_texts_of_a_file_are_bounded_together(client: httpx2.AsyncClient) -> None:
    chunks = [(b"zTXt", b"%d\0\0" % index + zlib.compress(b"x" * 90_000)) for index in range(200)]
    assert sum(map(len, (await read(client, with_texts(*chunks)))["items"].values())) <= 1_000_000
    names = [(b"tEXt", b"%d\0x" % index) for index in range(1000)]
    assert len((await read(client, with_texts(*names)))["items"]) == 100


async def test_only_a_hundred_texts_are_decompressed(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    inflated, sizes = png_info._inflated, []

    def counted(content: bytes, most: int) -> bytes | None:
        sizes.append(len(content))
        return inflated(content, most)

    monkeypatch.setattr(png_info, "_inflated", counted)
    bomb = zlib.compress(bytes(1_100_000))
    assert (await read(client, with_texts(*[(b"zTXt", b"a\0\0" + bomb)] * 110)))["items"] == {}
    assert len(sizes) == 100


def directory(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF directory of tags: tag, type, count and offset."""
    return struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *each) for each in tags) + bytes(4)


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
def test_exif_tags_that_share_their_bytes_take_no_memory() -> None:
    """Pillow 11 holds the bytes of all tags: 64 GB for this file of 2 MB."""
    text, shared = b"ASCII\0\0\0a house", 1_000_000
    start = 26 + 2 + 12 * 65_000 + 4
    tags = [(0x9286, 7, len(text), start), *((tag, 7, shared, start) for tag in range(65_000 - 1))]
    exif = b"II*\0" + struct.pack("<I", 8) + directory((0x8769, 4, 1, 26)) + directory(*tags)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "WEBP", exif=exif + text + bytes(shared))
    tracemalloc.start()
    try:
        png_info._of_exif(file.getvalue())
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("cut", [*range(0, 60, 7), 61, 62])
def test_damaged_exif_data_has_no_text(cut: int) -> None:
    exif = b"II*\0" + struct.pack("<I", 8) + directory((0x8769, 4, 1, 26)) + directory((0x9286, 7, 99, 44))
    chunk = struct.pack("<4sI", b"EXIF", cut) + exif[:cut]
    assert png_info._of_exif(b"RIFF....WEBP" + chunk) == {}
    assert png_info._of_exif(b"\xff\xd8\xff\xe1" + (cut + 8).to_bytes(2) + b"Exif\0\0" + exif[:cut]) == {}
    assert png_info._of_exif(b"GIF89a") == {}


async def test_a_chunk_with_a_wrong_length_is_harmless(client: httpx2.AsyncClient) -> None:
    data = base64.b64decode(with_texts((b"tEXt", b"parameters\0a")))
    for length in (0, 2**31, 2**32 - 1):
        damaged = base64.b64encode(data[:33] + struct.pack(">I", length) + data[37:]).decode()
        assert (await client.post(PNG_INFO, json={"image": damaged})).status_code in (200, 422)


async def test_what_is_no_picture_is_rejected(client: httpx2.AsyncClient) -> None:
    for body in ({}, {"image": "aGVsbG8="}, {"image": ""}, {"image": "http://example.org/a.png"}, {"image": None}, []):
        assert (await client.post(PNG_INFO, json=body)).status_code == 422
    written = PngImagePlugin.PngInfo()
    written.add_text("parameters", "x" * 2_000_000)
    file = io.BytesIO()
    Image.new("1", (8, 8)).save(file, "PNG", pnginfo=written)
    assert (await client.post(PNG_INFO, json={"image": base64.b64encode(file.getvalue()).decode()})).status_code == 413
