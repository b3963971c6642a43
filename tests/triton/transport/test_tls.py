# SPDX-License-Identifier: Apache-2.0
"""TLS to Triton with real certificates: which are trusted, and the error texts for others."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import uvloop
from pydantic import BaseModel

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import TritonUnavailableError
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.transport.credentials import Access
from support.certificate_authority import Authority, blunt_server
from support.scripted_triton import Upstream, scripted_triton

Loop = Callable[[], asyncio.AbstractEventLoop]
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
CAUSES = {
    "unknown": "does not trust the signer of its TLS certificate; set the CA's certificate (TRITON_CA_FILE)",
    "expired": "has expired; renew it",
    "other name": "is not for the host name in its URL",
    "no client certificate": "requires one (TRITON_CLIENT_CERT_FILE)",
    "no TLS": "does not speak TLS; write http://",
    "plain": "its URL says http, but the port speaks TLS",
}


class Text(BaseModel):
    text: str


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def reject(upstream: Upstream) -> None:
    """Respond to a TLS handshake as Triton does."""
    await upstream.reader.read(1)
    await upstream.respond(status=b"400 Bad Request")


@asynccontextmanager
async def misconfigured(kind: str, authority: Authority) -> AsyncIterator[tuple[str, Access]]:
    """A URL, and settings with which a frontend cannot connect to it."""
    tls: ssl.SSLContext | None = authority.server()
    if kind == "no client certificate":
        with blunt_server(authority.server(clients=True)) as url:
            yield url, Access(ca_file=authority.ca_file)
        return
    if kind == "expired":
        tls = authority.server(is_expired=True)
    elif kind == "other name":
        tls = authority.server("triton.example")
    elif kind == "no TLS":
        tls = None
    async with scripted_triton(tls) as triton:
        url = triton.url
        if kind == "no TLS":
            triton.script = reject
            url = url.replace("http://127.0.0.1", "https://localhost")
        elif kind == "plain":
            url = url.replace("https:", "http:")
        yield url, Access() if kind == "unknown" else Access(ca_file=authority.ca_file)


@LOOPS
@pytest.mark.parametrize("kind", CAUSES)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # asyncio's servers drop failed handshakes
def test_the_error_names_the_cause_of_a_failed_handshake(kind: str, loop: Loop, authority: Authority) -> None:
    async def error_of() -> TritonUnavailableError:
        async with misconfigured(kind, authority) as (url, access), HTTPTriton(url, access=access) as triton:
            while triton.pool.breaker.error is None:  # the cause of a closed connection is looked up meanwhile
                with pytest.raises(TritonUnavailableError) as failed:
                    await triton.ready("m")
            with pytest.raises(TritonUnavailableError) as failed:
                await triton.ready("m")
            return failed.value

    with asyncio.Runner(loop_factory=loop) as runner:
        error = runner.run(error_of())
    assert CAUSES[kind] in error.detail
    assert error.code == "triton_tls_failed"
    assert "localhost" not in error.detail


@pytest.mark.parametrize("kind", ["unknown", "plain"])
async def test_readiness_and_requests_report_the_tls_error(kind: str, authority: Authority) -> None:
    async with misconfigured(kind, authority) as (url, access):
        app = TritonFrontend(settings=Settings(triton_url=url, triton_ca_file=access.ca_file, watch_interval_s=3600))
        assert isinstance(app.triton, HTTPTriton)
        app.infer("/echo", model="echo", request=Text, response=Text)
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://test") as caller,
        ):
            while app.triton.pool.breaker.error is None:
                await caller.get("/health/ready")
            ready = await caller.get("/health/ready")
            responses = [await caller.post("/echo", json={"text": "a"}), await caller.get("/v2/models/echo/ready")]
    (state,) = ready.json()["endpoints"]
    assert (ready.status_code, state["code"]) == (503, "triton_tls_failed")
    assert CAUSES[kind] in state["detail"]
    for response in responses:
        assert (response.status_code, response.json()["code"]) == (503, "triton_tls_failed")


@LOOPS
def test_requests_succeed_with_the_right_ca_and_certificate(loop: Loop, authority: Authority) -> None:
    access = Access(ca_file=authority.ca_file, client_cert_file=authority.certificate("frontend"))

    async def num_connections() -> int:
        async with scripted_triton(authority.server(clients=True)) as triton:
            async with HTTPTriton(triton.url, access=access, heartbeat_s=3600) as client:
                assert [await client.ready("m") for _ in range(3)] == [True] * 3
            return triton.num_connections

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(num_connections()) == 1


async def test_a_changed_ca_file_is_read_again(authority: Authority, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    shutil.copy(Authority(tmp_path / "another").ca_file, ca_file)
    async with (
        scripted_triton(authority.server()) as triton,
        HTTPTriton(triton.url, access=Access(ca_file=ca_file), heartbeat_s=3600) as client,
    ):
        with pytest.raises(TritonUnavailableError, match="does not trust the signer"):
            await client.ready("m")
        shutil.copy(authority.ca_file, tmp_path / "new.pem")
        (tmp_path / "new.pem").replace(ca_file)
        assert await client.ready("m")


async def test_a_file_that_is_not_a_certificate_is_reported(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text("no certificate")
    async with HTTPTriton("https://localhost:1", access=Access(ca_file=ca_file)) as client:
        with pytest.raises(TritonUnavailableError) as failed:
            await client.ready("m")
    assert failed.value.code == "triton_tls_failed"
    assert "is not PEM" in failed.value.detail
