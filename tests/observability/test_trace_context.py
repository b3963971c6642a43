# SPDX-License-Identifier: Apache-2.0
"""A client's trace context is forwarded to Triton on all routes, even if the frontend itself does not trace."""

from dataclasses import replace

import pytest

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.request_record import RequestRecord, current_record
from fastapi_triton.middleware.request_recording import RequestRecordingMiddleware
from fastapi_triton.triton.http_client import HTTPTriton
from support.app_on_socket import listening
from support.paths import ROOT
from support.scribble_app import config_of_file
from support.scripted_triton import INFER, REQUEST, Upstream, scripted_triton

CONTEXT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1"}
MODEL = ROOT / "models" / "sdxl_scribble_controlnet_stream" / "config.pbtxt"


async def forwarded(headers: dict[str, str]) -> list[tuple[str, str]]:
    """The headers of a request that the middleware forwards to Triton."""
    found: list[tuple[str, str]] = []

    async def app(*_: object) -> None:
        found.extend(current_record.get().trace_headers)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "headers": raw}
    await RequestRecordingMiddleware(app)(scope, None, None)  # type: ignore[arg-type]  # it uses neither
    return found


async def test_a_context_is_forwarded_unchanged() -> None:
    assert await forwarded(CONTEXT) == list(CONTEXT.items())
    assert await forwarded({}) == []


async def test_a_context_with_an_invalid_tracestate_is_dropped() -> None:
    assert await forwarded({**CONTEXT, "tracestate": "a=ä"}) == []


@pytest.mark.parametrize("traceparent", ["", "00-x-y-01", CONTEXT["traceparent"] + "\r\nx: y"])
async def test_an_invalid_traceparent_is_dropped(traceparent: str) -> None:
    assert await forwarded({**CONTEXT, "traceparent": traceparent}) == []


async def test_the_context_is_sent_to_infer_and_to_generate_stream() -> None:
    record = RequestRecord("POST")
    record.trace_headers = list(CONTEXT.items())
    current_record.set(record)
    heads: list[bytes] = []

    async def script(upstream: Upstream) -> None:
        head, _ = await upstream.request()
        heads.append(head.lower())
        await upstream.respond(status=b"503 Service Unavailable")

    async with scripted_triton() as triton, HTTPTriton(triton.url) as client:
        triton.script = script
        client._configs["echo"] = replace(config_of_file(MODEL), name="echo")
        with pytest.raises(Exception, match="Triton"):
            await client.infer("echo", {}, request_id="mine")
        with pytest.raises(Exception, match="Triton"):
            await anext(client.stream("echo", {}, request_id="mine"))
    assert [b"/infer" in heads[0], b"/generate_stream" in heads[1]] == [True, True]
    for head in heads:
        for name, value in CONTEXT.items():
            assert head.count(f"\r\n{name}: {value}\r\n".encode()) == 1


async def test_the_context_is_sent_with_v2_requests() -> None:
    async with (
        scripted_triton() as triton,
        listening(TritonFrontend(settings=Settings(triton_url=triton.url, metrics=False))) as caller,
    ):
        await caller.post(INFER, content=REQUEST, headers=CONTEXT)
    (head,) = (head.lower() for head, _ in triton.requests if b"/infer" in head)
    assert head.count(b"\r\ntraceparent: " + CONTEXT["traceparent"].encode()) == 1
