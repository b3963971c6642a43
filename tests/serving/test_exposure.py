# SPDX-License-Identifier: Apache-2.0
"""A server that is open to a network warns; a server with invalid settings does not start."""

import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from fastapi_triton import Settings
from fastapi_triton.cli.main import app
from fastapi_triton.serving import listen_address
from fastapi_triton.serving import run as serve


@pytest.mark.parametrize(
    ("host", "is_public"),
    [
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.7", True),
        ("fe80::1%eth0", True),
        ("draw.example.com", True),
    ],
)
def test_which_addresses_are_public(host: str, is_public: bool) -> None:
    assert listen_address.is_public(host) is is_public


def test_an_open_server_warns_in_the_log_and_on_the_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", terminal)
    assert listen_address.warn_if_open("0.0.0.0", Settings())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for warning in (record.getMessage(), terminal.getvalue()):
        assert "without API keys" in warning
        assert "fastapi-triton keys add" in warning
    caplog.clear()
    assert not listen_address.warn_if_open("127.0.0.1", Settings())
    assert not listen_address.warn_if_open("0.0.0.0", Settings(api_keys_file="keys.toml"))
    assert not caplog.records


@pytest.fixture
def environment() -> Iterator[None]:
    with mock.patch.dict(os.environ):
        yield


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("content", [None, "[keys.x]\n"])
def test_serve_fails_at_once_with_an_unusable_key_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    def run(plan: serve.Plan) -> None:
        raise AssertionError("it began")

    monkeypatch.setattr(serve, "run", run)
    file = tmp_path / "keys.toml"
    if content:
        file.write_text(content)
    done = CliRunner().invoke(app, ["serve", "--port", "0", "--api-keys-file", str(file)])
    assert done.exit_code == 2
    assert "keys.toml cannot be used" in done.output
    assert ("sha256" if content else "No such file") in done.output


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (["--root-path", "draw/"], 'FASTAPI_TRITON_ROOT_PATH is "draw/"; it must match the pattern'),
        (["--root-path", "//evil.example"], 'ROOT_PATH is "//evil.example"; it must'),
        (["--public-scopes", "infer,everything"], 'PUBLIC_SCOPES is "everything"; it must be "infer", "v2"'),
        (["--forwarded-header", "via"], 'FORWARDED_HEADER is "via"; it must be "x-forwarded" or "forwarded".'),
        (["--trusted-proxies", "10.0.0.0/33"], "TRUSTED_PROXIES: '10.0.0.0/33' does not"),
        (["--trusted-proxies", "proxy.example"], "TRUSTED_PROXIES: 'proxy.example' does not"),
        (
            ["--anonymous-requests-per-minute", "-1"],
            'FASTAPI_TRITON_ANONYMOUS_REQUESTS_PER_MINUTE is "-1"; it must be at least 0.',
        ),
        (["--max-in-flight", "few"], 'FASTAPI_TRITON_MAX_IN_FLIGHT is "few"; it must be a whole number.'),
        (["--triton-ca-file", "/nope"], 'TRITON_CA_FILE is "/nope"; it must be the path of a file.'),
        (["--jobs-url", "mysql://u:password@h/d"], "FASTAPI_TRITON_JOBS_URL must match the pattern"),
    ],
)
def test_serve_rejects_invalid_settings(flag: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["serve", "--port", "0", *flag])
    assert done.exit_code == 2
    assert words in done.output
    assert "password" not in done.output


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_TRITON_CORS_ORIGINS", "https://a.example, https://b.example,")
    monkeypatch.setenv("FASTAPI_TRITON_PUBLIC_SCOPES", "docs,metrics")
    settings = Settings()
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.public_scopes == ("docs", "metrics")
