# SPDX-License-Identifier: Apache-2.0
"""Tokens and headers for Triton: sent with each request, read again when their file changes, and never shown."""

import logging
from pathlib import Path

import httpx2
import pytest
from pydantic import BaseModel, ValidationError

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.errors import InferenceError, TritonUnavailableError
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.transport.address import Address
from fastapi_triton.triton.transport.credentials import Access, HeaderLines
from support.scripted_triton import ScriptedTriton, Upstream, scripted_triton
from support.serving import free_port

SECRET = "s3cr3t-t0ken"


class Text(BaseModel):
    text: str


def heads(triton: ScriptedTriton) -> list[list[str]]:
    return [head.decode().lower().split("\r\n") for head, _ in triton.requests]


async def stream(client: HTTPTriton) -> None:
    with pytest.raises(InferenceError):  # the response is not a stream
        await anext(client.stream("m", {}))


async def test_token_and_headers_are_sent_with_each_request() -> None:
    async with scripted_triton() as triton:

        async def respond(upstream: Upstream) -> None:
            while True:
                triton.requests.append(await upstream.request())
                await upstream.respond(b'{"name": "m", "outputs": [], "input": [], "output": [], "max_batch_size": 0}')

        triton.script = respond
        access = Access(token=SECRET, headers=(("X-Tenant", "blue"),))
        async with HTTPTriton(triton.url, access=access, heartbeat_s=0.05) as client:
            await client.ready("m")
            await client.infer("m", {})
            await stream(client)
            while not any("/health/live" in head[0] for head in heads(triton)):
                await client.ready("m")
    paths = {head[0].split()[1] for head in heads(triton)}
    assert paths >= {"/v2/health/live", "/v2/models/m/ready", "/v2/models/m/infer", "/v2/models/m/generate_stream"}
    for head in heads(triton):
        assert head.count(f"authorization: bearer {SECRET}") == head.count("x-tenant: blue") == 1


async def test_a_changed_token_file_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "token"
    file.write_text("first\n")
    async with (
        scripted_triton() as triton,
        HTTPTriton(triton.url, access=Access(token_file=file), heartbeat_s=3600) as client,
    ):
        await client.ready("m")
        (tmp_path / "new").write_text(SECRET)
        (tmp_path / "new").replace(file)
        await client.ready("m")
        file.write_text("")  # as during a write
        await client.ready("m")
        file.unlink()
        await client.ready("m")
        file.write_text("third")
        await client.ready("m")
        ready_heads = [head for head in heads(triton) if "/ready" in head[0]]
    sent = [line for head in ready_heads for line in head if line.startswith("authorization")]
    assert sent == [f"authorization: bearer {token}" for token in ("first", SECRET, SECRET, SECRET, "third")]
    assert SECRET not in caplog.text


async def test_nothing_is_sent_without_the_token(tmp_path: Path) -> None:
    async with (
        scripted_triton() as triton,
        HTTPTriton(triton.url, access=Access(token_file=tmp_path / "token"), heartbeat_s=3600) as client,
    ):
        with pytest.raises(TritonUnavailableError, match="cannot read its token") as raised:
            await client.ready("m")
        assert raised.value.code == "triton_access_denied"
        assert triton.num_connections == 0


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"407 Proxy Authentication Required"])
async def test_rejected_credentials_are_an_error_of_the_frontend_and_not_of_the_client(status: bytes) -> None:
    async def reject(upstream: Upstream) -> None:
        while True:
            triton.requests.append(await upstream.request())
            await upstream.respond(b"<html>no", status=status, headers=b"WWW-Authenticate: Basic\r\n")

    async with scripted_triton() as triton:
        triton.script = reject
        settings = Settings(triton_url=triton.url, triton_headers="X-Tenant: blue", watch_interval_s=3600)
        app = TritonFrontend(settings=settings)
        app.infer("/echo", model="echo", request=Text, response=Text)
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://test") as caller,
        ):
            headers = {"x-tenant": "red", "Authorization": "Bearer mine"}
            for response in (
                await caller.post("/echo", json={"text": "a"}),
                await caller.get("/v2/models/echo/config", headers=headers),
            ):
                assert (response.status_code, response.json()["code"]) == (503, "triton_access_denied")
                assert "www-authenticate" not in response.headers
    # A client can neither replace these headers nor send its own credentials to Triton.
    assert "x-tenant: blue" in heads(triton)[-1]
    assert not any("red" in line or "mine" in line for line in heads(triton)[-1])


async def test_the_password_in_the_url_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with HTTPTriton(f"http://me:{SECRET}@127.0.0.1:{free_port()}", request_timeout_s=5) as client:
        for request in (client.ready("m"), client.infer("m", {}), client.index()):
            with pytest.raises(TritonUnavailableError) as failed:
                await request
            assert SECRET not in str(failed.value)
    assert "127.0.0.1" in caplog.text
    assert SECRET not in caplog.text


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_TOKEN", SECRET)
    monkeypatch.setenv("TRITON_HEADERS", f"X-Key: {SECRET}\nX-Tenant: blue")
    settings = Settings(triton_url=f"http://me:{SECRET}@host")
    assert SECRET not in repr(settings) + repr(Access.of(settings))
    assert Access.of(settings).headers == [("X-Key", SECRET), ("X-Tenant", "blue")]
    with pytest.raises(ValidationError, match="each line must have the form `Name: value`") as raised:
        Settings(triton_headers=SECRET)
    assert SECRET not in str(raised.value)
    with pytest.raises(ValidationError) as no_url:
        Settings(triton_url=f"htp://me:{SECRET}@host")
    assert SECRET not in str(no_url.value)


@pytest.mark.parametrize(
    ("url_user", "settings", "sent"),
    [
        ("me:a%40b@", {}, ["authorization: Basic bWU6YUBi", "host: HOST"]),
        ("me:a%40b@", {"triton_token": f"{SECRET}\n"}, [f"authorization: Bearer {SECRET}", "host: HOST"]),
        (
            "",
            {"triton_token": SECRET, "triton_headers": "authorization: Key x"},
            ["authorization: Key x", "host: HOST"],
        ),
        (
            "",
            {"triton_headers": "Host: triton.example\r\n\r\nX-Tenant: blue\r\n"},
            ["Host: triton.example", "X-Tenant: blue"],
        ),
    ],
)
def test_no_header_is_sent_twice(url_user: str, settings: dict[str, str], sent: list[str]) -> None:
    made = Settings.model_validate({"triton_url": f"http://{url_user}triton:8000", **settings})
    lines = HeaderLines(Address.of(made.triton_url), Access.of(made)).lines().decode()
    assert lines.endswith("\r\n")
    assert sorted(lines.split("\r\n")[:-1]) == sorted(each.replace("HOST", "triton:8000") for each in sent)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut"])
def test_an_invalid_token_is_rejected(token: str) -> None:
    with pytest.raises(ValidationError, match="a token must be one word of printable ASCII"):
        Settings(triton_token=token)


def test_empty_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CA_FILE", "CLIENT_CERT_FILE", "CLIENT_KEY_FILE", "TOKEN", "TOKEN_FILE", "HEADERS"):
        monkeypatch.setenv(f"TRITON_{name}", "")
    assert Access.of(Settings()) == Access()
