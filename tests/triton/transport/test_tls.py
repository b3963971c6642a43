# SPDX-License-Identifier: Apache-2.0
"""TLS to Triton with real certificates: what is trusted, and in which words it is said what is wrong."""

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
WORDS = {
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


async def refuse(upstream: Upstream) -> None:
    """What Triton does with a TLS handshake on its port."""
    await upstream.reader.read(1)
    await upstream.respond(status=b"400 Bad Request")


@asynccontextmanager
async def wrong(kind: str, authority: Authority) -> AsyncIterator[tuple[str, Access]]:
    """A URL, and what a frontend has to reach it with that will not do."""
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
            triton.script = refuse
            url = url.replace("http://127.0.0.1", "https://localhost")
        elif kind == "plain":
            url = url.replace("https:", "http:")
        yield url, Access() if kind == "unknown" else Access(ca_file=authority.ca_file)


@LOOPS
@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of asyncio's own servers, which drop failed handshakes
def test_what_is_wrong_is_said_in_words(kind: str, loop: Loop, authority: Authority) -> None:
    async def told() -> TritonUnavailableError:
        async with wrong(kind, authority) as (url, access), HTTPTriton(url, access=access) as triton:
            while triton.pool.breaker.error is None:  # what a server says by closing is found out meanwhile
                with pytest.raises(TritonUnavailableError) as failed:
                    await triton.ready("m")
            with pytest.raises(TritonUnavailableError) as failed:
                await triton.ready("m")
            return failed.value

    with asyncio.Runner(loop_factory=loop) as runner:
        error = runner.run(told())
    assert WORDS[kind] in error.detail
    assert error.code == "triton_tls_failed"
    assert "localhost" not in error.detail


@pytest.mark.parametrize("kind", ["unknown", "plain"])
async def test_readiness_says_it_too_and_so_does_every_request(kind: str, authority: Authority) -> None:
    async with wrong(kind, authority) as (url, access):
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
            answers = [await caller.post("/echo", json={"text": "a"}), await caller.get("/v2/models/echo/ready")]
    (state,) = ready.json()["endpoints"]
    assert (ready.status_code, state["code"]) == (503, "triton_tls_failed")
    assert WORDS[kind] in state["detail"]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "triton_tls_failed")


@LOOPS
def test_with_the_right_ca_and_certificate_everything_passes(loop: Loop, authority: Authority) -> None:
    access = Access(ca_file=authority.ca_file, client_cert_file=authority.certificate("frontend"))

    async def ask() -> int:
        async with scripted_triton(authority.server(clients=True)) as triton:
            async with HTTPTriton(triton.url, access=access, heartbeat_s=3600) as client:
                assert [await client.ready("m") for _ in range(3)] == [True] * 3
            return triton.num_connections

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(ask()) == 1


async def test_a_ca_file_that_changes_is_read_again(authority: Authority, tmp_path: Path) -> None:
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


async def test_a_file_that_is_no_certificate_is_said_to_be_of_no_use(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text("no certificate")
    async with HTTPTriton("https://localhost:1", access=Access(ca_file=ca_file)) as client:
        with pytest.raises(TritonUnavailableError) as failed:
            await client.ready("m")
    assert failed.value.code == "triton_tls_failed"
    assert "is not PEM" in failed.value.detail
