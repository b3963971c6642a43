# SPDX-License-Identifier: Apache-2.0
"""`/v2` requests that kill Triton 2.51: the frontend rejects them, and Triton gets no request."""

import gzip
import json

import httpx2
import pytest

from fastapi_triton import Settings, TritonFrontend
from support.app_on_socket import listening
from support.scripted_triton import INFER, REQUEST, STREAM, ScriptedTriton
from support.v2_requests import CONFIG, TEXT, X, Y, binary, body_of


async def rejected(
    client: httpx2.AsyncClient,
    triton: ScriptedTriton,
    body: bytes,
    *,
    path: str = INFER,
    headers: dict[str, str] | None = None,
    code: str = "invalid_inference_request",
    status: int = 400,
) -> str:
    response = await client.post(path, content=body, headers=headers)
    error = response.json()
    assert (response.status_code, error["code"]) == (status, code), (error, body[:300], headers)
    assert error["request_id"] == response.headers["x-request-id"]
    assert len(response.content) < 1500
    assert triton.requests == []
    return str(error["error"])


NESTED = b"[" * 110_000 + b"]" * 110_000


@pytest.mark.parametrize("depth", [101, 2_000, 110_000])
@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
async def test_deep_json_is_rejected_everywhere(
    client: httpx2.AsyncClient, triton: ScriptedTriton, depth: int, is_closed: bool, brackets: tuple[bytes, bytes]
) -> None:
    nested = brackets[0] * depth + (b"1" + brackets[1] * depth if is_closed else b"")
    whole = body_of(TEXT)
    for path, body in (
        (INFER, whole.replace(b'["a"]', nested)),
        (INFER, whole[:-1] + b', "x": ' + nested + b"}"),
        (INFER, nested),
        (INFER, whole[:-1] + b', "id": "' + b"x" * 100_000 + b'", "x": ' + nested + b"}"),
        ("/v2/models/echo/generate", b'{"text": "a", "x": ' + nested + b"}"),
        (STREAM, b'{"text": ' + nested + b"}"),
        ("/v2/repository/index", b'{"ready": ' + nested + b"}"),
    ):
        detail = await rejected(client, triton, body, path=path, code="json_too_deep")
        assert "100 levels" in detail


SHAPES = [
    [1, 1, 2**40],
    [8, 1, 2**59],
    [2**61],
    [2**63 - 1, 1, 1],
    [2**64, 1, 1],
    [1, 1, 5 * 10**8],
    [2**32, 2**32, 1],
    [0, 2**62, 1],
    [-1, 1, 1],
    [1.5, 1, 1],
    [True, 1, 1],
    ["1", 1, 1],
    [[1]],
    [None],
    [1] * 33,
    [1] * 5_000,
    "x",
    None,
    {},
]


async def test_shapes_that_do_not_match_the_data_are_rejected(
    client: httpx2.AsyncClient, triton: ScriptedTriton
) -> None:
    for shape in SHAPES:
        await rejected(client, triton, body_of({**X, "shape": shape}))
        await rejected(client, triton, body_of({**X, "shape": shape, "data": [1.0] * 5_000}))
        for size in (0, 4):
            body, headers = binary(shape, size, data=b"abcd"[:size])
            await rejected(client, triton, body, headers=headers)


SIZES = [
    ([0, 1, 4], 4, b"abcd"),
    ([1, 1, 1], 8, b"abcd"),
    ([1, 1, 1], 4, b"abc"),
    ([1, 1, 1], 4, b"abcde"),
    ([1, 1, 1], 3, b"abc"),
    ([1, 1, 1], -4, b"abcd"),
    ([1, 1, 1], 2**63, b"abcd"),
    ([1, 1, 1], 4.0, b"abcd"),
    ([1, 1, 1], "4", b"abcd"),
    ([1, 1, 1], None, b"abcd"),
    ([1, 1, 1], True, b"a"),
]


async def test_wrong_binary_sizes_are_rejected(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    for shape, size, data in SIZES:
        body, headers = binary(shape, size, data=data)
        await rejected(client, triton, body, headers=headers)


CHANGES = [
    {"inputs": {}},
    {"inputs": None},
    {"inputs": [1]},
    {"inputs": [TEXT, TEXT]},
    {"inputs": [{**TEXT, "name": 5}]},
    {"inputs": [{**TEXT, "name": ""}]},
    {"inputs": [{**TEXT, "name": "text\x00"}]},
    {"inputs": [{**TEXT, "name": "x" * 40_000}]},
    {"inputs": [{**TEXT, "datatype": "BYTES\x00"}]},
    {"inputs": [{**TEXT, "datatype": "bytes"}]},
    {"inputs": [{**TEXT, "datatype": None}]},
    {"inputs": [{**TEXT, "datatype": "INT32"}]},
    {"inputs": [{**TEXT, "shape": [9, 1]}]},
    {"inputs": [{**TEXT, "shape": [1]}]},
    {"inputs": [{**Y, "shape": [1, 3]}]},
    {"inputs": [{**TEXT, "data": "a"}]},
    {"inputs": [{**TEXT, "data": {}}]},
    {"inputs": [{**TEXT, "parameters": []}]},
    {"inputs": [{**TEXT, "parameters": {"binary_data_size": 1}}]},
    {"inputs": [{name: value for name, value in TEXT.items() if name != "data"}]},
    {"outputs": {}},
    {"outputs": [{"name": "y"}, {"name": "y"}]},
    {"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
    {"outputs": [{"name": "text", "parameters": {"classification": 1}}]},
    {"outputs": [{"name": "text\x00", "parameters": {"classification": 1}}]},
    {"outputs": [{"name": "x", "parameters": {"classification": 1}}]},
    {"outputs": [{"name": "half", "parameters": {"classification": 1}}]},
    {"outputs": [{"name": "none", "parameters": {"classification": 1}}]},
    {"outputs": [{"name": "y", "parameters": {"classification": -1}}]},
    {"outputs": [{"name": "y", "parameters": {"classification": 2**32 + 1}}]},
    {"outputs": [{"name": "y", "parameters": {"classification": True}}]},
    {"id": 5},
    {"parameters": []},
    {"parameters": {"x": []}},
    {"parameters": {"priority": -1}},
    {"parameters": {"timeout": "1"}},
    {"parameters": {"sequence_id": -1}},
    {"parameters": {"sequence_id": 2**64}},
    {"parameters": {"sequence_start": 1}},
    {"parameters": {"binary_data_output": "yes"}},
]


async def test_members_of_the_wrong_type_are_rejected(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    for changes in CHANGES:
        await rejected(client, triton, json.dumps({"inputs": [TEXT], **changes}).encode())
    await rejected(client, triton, b'{"text": "a", "id": 5}', path=STREAM)


BODIES = [
    b"",
    b"   ",
    b"{",
    b'{"inputs": []}}',
    b'{"inputs": []}x',
    b'{"inputs": []}\x00',
    b'\xef\xbb\xbf{"inputs": []}',
    b'{"inputs": [], "inputs": [1]}',
    b'{"inputs": [{"name": "a", "shape": [1], "shape": [2]}]}',
    b'{"inputs": [], "' + b"n" * 40_000 + b'": 1}',
    b'{"inputs": [], "a\\u0000b": 1}',
    b'{"inputs": ["' + b"x" * 5_000 + b"]}",
]


async def test_body_that_is_not_one_json_object_is_rejected(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    for body in BODIES:
        for path in (INFER, STREAM):
            await rejected(client, triton, body, path=path, code="unreadable_request")
        for other in (b"[]", b"1", b"null", b'"x"'):
            await rejected(client, triton, other, path=STREAM)
            await rejected(client, triton, other)


async def test_body_with_too_many_members_is_rejected(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    many = b"{" + b",".join(b'"k%d":1' % number for number in range(100_000)) + b"}"
    for path in (INFER, STREAM, "/v2/repository/index"):
        await rejected(client, triton, many, path=path, code="too_many_elements", status=413)


LENGTHS = ["12abc", "-1", "", "+5", "0x10", "99999", "9" * 22, "4294967296", "1,1"]


async def test_invalid_json_length_header_is_rejected(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    for length in LENGTHS:
        headers = {"Inference-Header-Content-Length": length}
        await rejected(client, triton, body_of(TEXT), headers=headers, code="invalid_header")


MALFORMED = ["gzip;q=1e999", "gzip;q=", "gzip;q=-1", "gzip;q=nan", "gzip;q=2", "gzip;q=.", "gzip;level=1", "a b"]


async def test_malformed_accept_encoding_is_rejected(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    for value in MALFORMED:
        for path in (INFER, STREAM):
            await rejected(
                client, triton, REQUEST, path=path, headers={"Accept-Encoding": value}, code="invalid_header"
            )
        response = await client.get("/v2/health/live", headers={"Accept-Encoding": value})
        assert (response.status_code, response.json()["code"]) == (400, "invalid_header")
        assert triton.requests == []


WELLFORMED = [
    "",
    "gzip",
    "gzip, deflate, br, zstd",
    "gzip;q=0.5, *;q=0",
    "identity ; q=1.000,,",
    "a;q=.5, b;q=0.123456",
]


async def test_wellformed_accept_encoding_is_forwarded(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    for value in WELLFORMED:
        assert (await client.post(INFER, content=REQUEST, headers={"Accept-Encoding": value})).status_code == 200
        assert f"accept-encoding: {value}\r\n".encode() in triton.requests.pop()[0]


async def test_shared_memory_requires_v2_administration(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    region = {"shared_memory_region": "mine", "shared_memory_byte_size": 4}
    for body in (
        body_of({"name": "x", "shape": [1, 1, 1], "datatype": "FP32", "parameters": region}),
        body_of(TEXT, outputs=[{"name": "text", "parameters": region}]),
    ):
        await rejected(client, triton, body, code="v2_administration_closed", status=403)
    open_to_all = Settings(triton_url=triton.url, v2_admin=True)
    async with listening(TritonFrontend(settings=open_to_all)) as admin:
        assert (await admin.post(INFER, content=body)).status_code == 200
        for changes in (
            {"shared_memory_byte_size": 2**63 - 1, "shared_memory_offset": 1},
            {"shared_memory_region": ""},
        ):
            body = body_of(TEXT, outputs=[{"name": "text", "parameters": region | changes}])
            assert (await admin.post(INFER, content=body)).json()["code"] == "invalid_inference_request"


async def test_gzip_bomb_is_decompressed_only_up_to_the_limit(
    client: httpx2.AsyncClient, triton: ScriptedTriton
) -> None:
    gzipped = {"Content-Encoding": "gzip"}
    bomb = gzip.compress(b"[" * 40_000_000)
    await rejected(client, triton, bomb, headers=gzipped, code="body_too_large", status=413)
    deep = gzip.compress(b'{"inputs": ' + NESTED + b"}")
    await rejected(client, triton, deep, headers=gzipped, code="json_too_deep")
    for broken in (b"x", gzip.compress(REQUEST)[:-9], gzip.compress(REQUEST) + b"x"):
        await rejected(client, triton, broken, headers=gzipped, code="unreadable_request")
    await rejected(client, triton, b"x", headers={"Content-Encoding": "br"}, code="compressed_body", status=415)


async def test_decompressed_bodies_count_towards_the_body_budget(triton: ScriptedTriton) -> None:
    settings = Settings(triton_url=triton.url, v2_compressed=True, max_body_bytes=1_000, max_buffered_body_bytes=999)
    packed, gzipped = gzip.compress(REQUEST), {"Content-Encoding": "gzip"}
    app = TritonFrontend(settings=settings)
    async with listening(app) as client:
        await rejected(client, triton, packed, headers=gzipped, code="body_buffers_full", status=503)
    async with listening(
        TritonFrontend(settings=settings.model_copy(update={"max_buffered_body_bytes": 1_000}))
    ) as client:
        for _ in range(3):
            assert (await client.post(INFER, content=packed, headers=gzipped)).status_code == 200


async def test_sum_of_input_sizes_is_limited_by_the_body(client: httpx2.AsyncClient, triton: ScriptedTriton) -> None:
    many = [{**X, "name": f"n{number}", "shape": [1, 1, 100]} for number in range(200)]
    assert "more than the body has bytes" in await rejected(client, triton, body_of(*many))


async def test_config_in_a_load_request_is_checked(triton: ScriptedTriton) -> None:
    path = "/v2/repository/models/echo/load"
    async with listening(TritonFrontend(settings=Settings(triton_url=triton.url, v2_admin=True))) as client:
        deep = json.dumps({"parameters": {"config": NESTED.decode()}}).encode()
        await rejected(client, triton, deep, path=path, code="json_too_deep")
        for value in (b"NaN", b'"\\ud800"'):
            await rejected(
                client, triton, b'{"parameters": {"config": %b}}' % value, path=path, code="unreadable_request"
            )
        good = json.dumps({"parameters": {"config": json.dumps(CONFIG), "file:1/model.py": "eA==" * 1_000}}).encode()
        for body in (good, b"", b"{}", b'{"parameters": null}'):
            assert (await client.post(path, content=body)).status_code == 200
            assert triton.requests.pop()[1] == body
