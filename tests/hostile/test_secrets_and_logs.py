# SPDX-License-Identifier: Apache-2.0
"""Text of models, clients and servers is escaped in logs and terminals, and no password is shown."""

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console
from typer.testing import CliRunner

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.cli.check import command as check_command
from fastapi_triton.cli.check import runner
from fastapi_triton.cli.check.rule import Finding, Severity
from fastapi_triton.cli.generate import run as generate_run
from fastapi_triton.cli.generate.client import Client, GeneratedPicture, without_credentials
from fastapi_triton.cli.generate.errors import GenerateError, NoServerError, UsageError
from fastapi_triton.cli.generate.progress import ProgressDisplay
from fastapi_triton.cli.main import app as command_line
from fastapi_triton.core.errors import InferenceError, InvalidRequestError
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError, redacted
from fastapi_triton.embedded.s3_repository.location import Location
from fastapi_triton.jobs.webhooks import NotDeliveredError, Webhooks
from fastapi_triton.observability import logging_config
from fastapi_triton.observability.logging_config import (
    JSONFormatter,
    TextFormatter,
    printable,
    printable_json,
    printable_lines,
)
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.http_client import HTTPTriton
from fastapi_triton.triton.tensor import Tensor
from support.scribble_app import PATH
from support.scripted_triton import Upstream, scripted_triton

SECRET = "S3CRET"  # must not appear
FORGED = "2026-11-28T10:00:00.000Z INFO    fastapi_triton: all is well"
# A forged line; escapes that set a terminal's title and clear its screen; the 8-bit form of an escape; other line ends;
# right-to-left text; half a surrogate pair.
HOSTILE = f"no\r\n{FORGED}\n\x1b]0;owned\x07\x1b[2J\x9b2J\x00\x08\x7f\x0b\x0c\x1c\x85\u2028\u2029\u202e\u2066\ud800"


def record_of(message: str, *arguments: Any, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, None) if error else None
    return logging.LogRecord("triton", logging.WARNING, __file__, 1, message, arguments, exc_info)


def is_harmless(text: str) -> bool:
    return all(character.isprintable() or character in "\n\t" for character in text)


# ---- logs


def test_only_the_first_line_of_a_text_record_starts_in_column_one() -> None:
    text = TextFormatter().format(record_of("it failed: %s", HOSTILE, error=ValueError(HOSTILE)))
    assert is_harmless(text)
    first, *others = text.split("\n")
    assert "WARNING triton: it failed: no\\r" in first
    assert len(others) >= 4
    assert all(line.startswith("    ") for line in others)
    assert text.splitlines() == [first, *others]  # Python also splits at other line ends
    assert "\\x1b[2J\\x9b2J\\x00" in text
    text.encode()  # UTF-8 can encode it


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE.removesuffix("\ud800")])
def test_json_record_is_one_line_with_the_same_text(text: str) -> None:
    line = JSONFormatter().format(record_of("it failed: %s", text, error=ValueError("x" + text)))
    assert line.isprintable()
    record = json.loads(line)
    assert record["message"] == f"it failed: {text}"
    assert text in record["traceback"]
    assert JSONFormatter().format(record_of("à la %s", "日本")).count("日本") == 1  # harmless text is unchanged


@given(st.text(st.characters(), max_size=50))
def test_printable_text_is_harmless(text: str) -> None:
    assert printable(text).isprintable()
    assert is_harmless(printable_lines(text))
    assert printable_lines(text).count("\n") == text.count("\n")
    assert json.loads(printable_json([text])) == [text]
    assert printable_json([text]).isprintable()
    if text.isprintable():
        assert printable(text) == printable_lines(text) == text


@pytest.fixture
def lines() -> Iterator[Callable[[], str]]:
    """The log, as `serve` writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter())
    ours = logging.getLogger("fastapi_triton")
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    yield stream.getvalue
    ours.removeHandler(handler)
    ours.setLevel(level)


async def test_model_error_cannot_forge_a_log_line(lines: Callable[[], str]) -> None:
    async def fail(upstream: Upstream) -> None:
        await upstream.request()
        body = json.dumps({"error": f"in ensemble 'm', {HOSTILE}"}).encode("utf-8", "surrogatepass")
        await upstream.respond(body, status=b"500 Internal Server Error")

    async with scripted_triton() as triton, HTTPTriton(triton.url) as client:
        triton.script = fail
        with pytest.raises(InferenceError):
            await client.infer("m", {"x": Tensor(BY_WIRE["INT32"], np.array([1], np.int32))}, request_id="a")
    assert is_harmless(lines())
    assert "owned" in lines()
    assert f"\n{FORGED}" not in lines()


async def test_client_input_cannot_forge_a_log_line(lines: Callable[[], str]) -> None:
    app = TritonFrontend(settings=Settings(access_log=True, access_log_prompts=True, jobs_folder=""))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {b"X-Request-ID": b"a\x1b[2J", b"User-Agent": b"\x1b]0;x\x07", b"Host": b"x"}
        response = await client.get("/x%0a%0d" + "%1b[2J?key=" + SECRET, headers=headers)
        assert response.status_code == 404
        assert response.headers["x-request-id"].isalnum()  # generated by the frontend
    assert is_harmless(lines())
    assert SECRET not in lines()  # queries are not logged
    assert "/x%0a%0d%1b[2J 404 not_found" in lines()


# ---- the command line


def test_check_escapes_a_servers_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    finding = Finding("code", Severity.ERROR, f"[red]{HOSTILE}", HOSTILE, HOSTILE)

    async def found(_: runner.Subject) -> list[Finding]:
        return [finding]

    monkeypatch.setattr(check_command.runner, "check", found)
    for arguments in ([], ["--json"]):
        result = CliRunner().invoke(command_line, ["check", str(tmp_path), *arguments], env={"TERM": "dumb"})
        assert is_harmless(result.output)
        assert "[red]" in result.output  # not interpreted as markup
        assert f"\n{FORGED}" not in result.output
    assert json.loads(result.output)["findings"][0]["detail"] == HOSTILE


def test_check_escapes_a_servers_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def fails(_: runner.Subject) -> list[Finding]:
        raise InferenceError(HOSTILE)

    monkeypatch.setattr(check_command.runner, "check", fails)
    result = CliRunner().invoke(command_line, ["check", str(tmp_path)])
    assert result.exit_code == 2
    assert is_harmless(result.output)


@pytest.mark.parametrize("as_json", [False, True])
def test_generate_escapes_a_servers_text(monkeypatch: pytest.MonkeyPatch, *, as_json: bool) -> None:
    async def fails(*_: Any, **__: Any) -> None:
        raise GenerateError(HOSTILE, code=HOSTILE)

    monkeypatch.setattr("fastapi_triton.cli.generate.command.GenerateRun.execute", fails)
    arguments = ["generate", "a house", "--example", "house", *(["--json"] if as_json else [])]
    result = CliRunner().invoke(command_line, arguments)
    assert result.exit_code == 1
    assert is_harmless(result.output)
    assert "owned" in result.output


def test_generate_escapes_a_pictures_info(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    display = ProgressDisplay(names_files=True, is_quiet=False)
    console = Console(file=stream, force_terminal=False, soft_wrap=True)
    monkeypatch.setattr(display, "_errors", console)
    monkeypatch.setattr(display, "_output", console)
    display.print(f"Note: {HOSTILE}.")
    display.wrote(Path("a.png"), GeneratedPicture(b"", 1, {"width": HOSTILE}))
    assert is_harmless(stream.getvalue())
    assert stream.getvalue().count("\n") == 2


# ---- secrets


@pytest.mark.parametrize(
    "url",
    [
        f"s3://user:{SECRET}@bucket/models",
        f"s3://user:{SECRET}@store:9000/bucket/models",
        f"s3://http://user:{SECRET}@store:9000/bucket/models",
        f"s3://https://{SECRET}@store/bucket",
        f"s3://https://user:a/{SECRET}@store/bucket",
        f"s3://https://user:a@{SECRET}@store/bucket",
        f"s3://user:{SECRET} {SECRET}@store:9000/bucket",
        f"https://user:{SECRET}@store/bucket",
        f"s3://bucket/models?X-Amz-Credential=a&X-Amz-Signature={SECRET}",
        f"https://bucket.s3.amazonaws.com/models?X-Amz-Expires=9&X-Amz-Signature={SECRET}",
    ],
)
def test_model_repository_url_with_a_secret_is_rejected_and_not_repeated(url: str) -> None:
    with pytest.raises(S3ModelsError) as caught:
        Location.parse(url)
    assert SECRET not in str(caught.value)
    assert "credentials" in str(caught.value)
    with mock.patch.dict(os.environ):  # `serve` exports its flags to it
        result = CliRunner().invoke(command_line, ["serve", "--embedded", "--models", url, "--port", "0"])
    assert result.exit_code == 2
    assert SECRET not in result.output


def test_at_sign_in_an_s3_key_is_not_a_secret() -> None:
    assert Location.parse("s3://bucket/me@home/models").url() == "s3://bucket/me@home/models/"[:-1]


def test_secrets_of_urls_in_messages_are_redacted() -> None:
    message = f'Could not connect to "https://u:{SECRET}@store:9000/b?X-Amz-Signature={SECRET}" today'
    assert redacted(message) == 'Could not connect to "https://***@store:9000/b?*** today'
    assert redacted("no URL at all: a@b?c") == "no URL at all: a@b?c"


@pytest.mark.parametrize(
    "setting",
    [
        {"triton_url": f"http://user:{SECRET}@triton:8000"},
        {"triton_token": SECRET},
        {"triton_headers": f"X-Key: {SECRET}"},
        {"jobs_url": f"postgresql://user:{SECRET}@db/jobs"},
        {"jobs_webhook_secret": SECRET},
    ],
)
def test_settings_show_no_secret(setting: dict[str, Any]) -> None:
    settings = Settings(**setting)
    assert SECRET not in f"{settings!r} {settings}"


@pytest.mark.parametrize(
    "setting",
    [
        {"triton_url": f"http://user:{SECRET}@triton:8000/a b"},
        {"triton_token": f"{SECRET} {SECRET}"},
        {"triton_headers": SECRET},
        {"jobs_url": f"mysql://user:{SECRET}@db/jobs"},
        {"jobs_url": f"postgresql://user:@{SECRET}@db/jobs"},  # a naive parser would take the password for the host
    ],
)
def test_rejected_setting_is_not_repeated(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**setting)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://draw.example/below/me@home", "https://home"),  # rather shows too little than too much
        (f"http://user:{SECRET}@host:8080/below", "http://host:8080/below"),
        (f"http://{SECRET}@host", "http://host"),
        (f"http://user:a/{SECRET}@host", "http://host"),
        (f"user:{SECRET}@host", "host"),
    ],
)
def test_generate_shows_its_url_without_credentials(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@pytest.mark.parametrize("host", ["127.0.0.1:1", "[::1", "no host"])
async def test_generates_errors_have_no_credentials(host: str) -> None:
    async with aiohttp.ClientSession() as session:
        frontend = Client(session, f"http://user:{SECRET}@{host}", PATH)
        assert SECRET not in frontend.url
        with pytest.raises((NoServerError, UsageError)) as caught:
            await frontend.describe()
        with pytest.raises((GenerateError, ValueError)) as rejected:
            [event async for event in frontend.draw({}, b"")]
    assert SECRET not in f"{caught.value} {rejected.value}"
    assert SECRET not in str(generate_run.RunReport(server=frontend.url).as_json())


@pytest.mark.parametrize("user", [f"me:{SECRET}", f":{SECRET}", SECRET])
def test_webhook_url_with_credentials_is_rejected_and_not_repeated(user: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Webhooks("a secret").checked(f"https://{user}@example.org/hook")
    assert caught.value.code == "invalid_webhook_url"
    assert SECRET not in caught.value.detail


async def test_error_of_an_undelivered_webhook_has_no_path() -> None:
    webhooks = Webhooks("a secret", anywhere=True)
    for url in (f"http://127.0.0.1:1/{SECRET}?token={SECRET}", f"http://[::1]:0/{SECRET}"):
        with pytest.raises(NotDeliveredError) as caught:
            await webhooks.send("job", url, "completed")
        assert SECRET not in str(caught.value)


def test_traceback_in_the_log_has_no_values(lines: Callable[[], str]) -> None:
    def fail(password: str) -> None:
        raise RuntimeError(f"it has {len(password)} characters")

    try:
        fail(SECRET)
    except RuntimeError:
        logging.getLogger("fastapi_triton").exception("failed")
    assert "it has 6 characters" in lines()
    assert SECRET not in lines()


def test_serve_uses_these_formatters() -> None:
    for name, kind in (("text", TextFormatter), ("json", JSONFormatter)):
        handler = logging_config._handler(Settings(log_format=name))  # type: ignore[arg-type]
        assert type(handler.formatter) is kind
        assert isinstance(handler, logging.StreamHandler)
        assert handler.stream is sys.stderr
