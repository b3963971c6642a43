# SPDX-License-Identifier: Apache-2.0
"""Tokens and headers for Triton: sent with everything, renewed with their file, and never shown."""

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
    with pytest.raises(InferenceError):  # its answer is no stream
        await anext(client.stream("m", {}))


async def test_a_token_and_headers_go_with_everything() -> None:
    async with scripted_triton() as triton:

        async def answer(upstream: Upstream) -> None:
            while True:
                triton.requests.append(await upstream.request())
                await upstream.respond(b'{"name": "m", "outputs": [], "input": [], "output": [], "max_batch_size": 0}')

        triton.script = answer
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


async def test_a_token_whose_file_changes_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
        file.write_text("")  # as while it is written
        await client.ready("m")
        file.unlink()
        await client.ready("m")
        file.write_text("third")
        await client.ready("m")
        asked = [head for head in heads(triton) if "/ready" in head[0]]
    sent = [line for head in asked for line in head if line.startswith("authorization")]
    assert sent == [f"authorization: bearer {token}" for token in ("first", SECRET, SECRET, SECRET, "third")]
    assert SECRET not in caplog.text


async def test_without_its_token_nothing_is_sent(tmp_path: Path) -> None:
    async with (
        scripted_triton() as triton,
        HTTPTriton(triton.url, access=Access(token_file=tmp_path / "token"), heartbeat_s=3600) as client,
    ):
        with pytest.raises(TritonUnavailableError, match="cannot read its token") as refused:
            await client.ready("m")
        assert refused.value.code == "triton_access_denied"
        assert triton.num_connections == 0


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"407 Proxy Authentication Required"])
async def test_credentials_that_are_refused_are_the_frontends_not_the_callers(status: bytes) -> None:
    async def refuse(upstream: Upstream) -> None:
        while True:
            triton.requests.append(await upstream.request())
            await upstream.respond(b"<html>no", status=status, headers=b"WWW-Authenticate: Basic\r\n")

    async with scripted_triton() as triton:
        triton.script = refuse
        settings = Settings(triton_url=triton.url, triton_headers="X-Tenant: blue", watch_interval_s=3600)
        app = TritonFrontend(settings=settings)
        app.infer("/echo", model="echo", request=Text, response=Text)
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://test") as caller,
        ):
            headers = {"x-tenant": "red", "Authorization": "Bearer mine"}
            for answer in (
                await caller.post("/echo", json={"text": "a"}),
                await caller.get("/v2/models/echo/config", headers=headers),
            ):
                assert (answer.status_code, answer.json()["code"]) == (503, "triton_access_denied")
                assert "www-authenticate" not in answer.headers
    # A caller can neither be another to Triton, nor hand it what is the frontend's to check.
    assert "x-tenant: blue" in heads(triton)[-1]
    assert not any("red" in line or "mine" in line for line in heads(triton)[-1])


async def test_the_password_in_the_url_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with HTTPTriton(f"http://me:{SECRET}@127.0.0.1:{free_port()}", request_timeout_s=5) as client:
        for ask in (client.ready("m"), client.infer("m", {}), client.index()):
            with pytest.raises(TritonUnavailableError) as failed:
                await ask
            assert SECRET not in str(failed.value)
    assert "127.0.0.1" in caplog.text
    assert SECRET not in caplog.text


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_TOKEN", SECRET)
    monkeypatch.setenv("TRITON_HEADERS", f"X-Key: {SECRET}\nX-Tenant: blue")
    settings = Settings(triton_url=f"http://me:{SECRET}@host")
    assert SECRET not in repr(settings) + repr(Access.of(settings))
    assert Access.of(settings).headers == [("X-Key", SECRET), ("X-Tenant", "blue")]
    with pytest.raises(ValidationError, match="each line must have the form `Name: value`") as refused:
        Settings(triton_headers=SECRET)
    assert SECRET not in str(refused.value)
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
def test_no_header_is_said_twice(url_user: str, settings: dict[str, str], sent: list[str]) -> None:
    made = Settings.model_validate({"triton_url": f"http://{url_user}triton:8000", **settings})
    lines = HeaderLines(Address.of(made.triton_url), Access.of(made)).lines().decode()
    assert lines.endswith("\r\n")
    assert sorted(lines.split("\r\n")[:-1]) == sorted(each.replace("HOST", "triton:8000") for each in sent)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ümlaut"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(ValidationError, match="a token must be one word of printable ASCII"):
        Settings(triton_token=token)


def test_a_variable_that_is_empty_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CA_FILE", "CLIENT_CERT_FILE", "CLIENT_KEY_FILE", "TOKEN", "TOKEN_FILE", "HEADERS"):
        monkeypatch.setenv(f"TRITON_{name}", "")
    assert Access.of(Settings()) == Access()
