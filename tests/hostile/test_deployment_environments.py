# SPDX-License-Identifier: Apache-2.0
"""Environments that once broke the start: variables injected by Kubernetes, users without a home folder, a read-only
`/tmp`, a Triton behind a path."""

import logging
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.cli import serve
from fastapi_triton.cli.main import app
from fastapi_triton.cli.perf import tool
from fastapi_triton.cli.perf.tool import PerfError
from fastapi_triton.core.settings import variable
from fastapi_triton.embedded import installation
from fastapi_triton.embedded.installation import EmbeddedTritonError
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.fetch import default_cache
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from fastapi_triton.serving.ray_serve.options import ClusterOptions, frontend_variables
from fastapi_triton.triton.http_client import HTTPTriton
from support.app_on_socket import listening
from support.scripted_triton import REQUEST, ScriptedTriton, scripted_triton

SECRET = "hunter2"
# Kubernetes injects these into every pod of a namespace with a Service named `fastapi-triton`.
INJECTED = {
    "FASTAPI_TRITON_PORT": "tcp://10.96.0.7:8080",
    "FASTAPI_TRITON_PORT_8080_TCP": "tcp://10.96.0.7:8080",
    "FASTAPI_TRITON_PORT_8080_TCP_ADDR": "10.96.0.7",
    "FASTAPI_TRITON_PORT_8080_TCP_PORT": "8080",
    "FASTAPI_TRITON_PORT_8080_TCP_PROTO": "tcp",
    "FASTAPI_TRITON_SERVICE_HOST": "10.96.0.7",
    "FASTAPI_TRITON_SERVICE_PORT": "8080",
    "FASTAPI_TRITON_SERVICE_PORT_HTTP": "8080",
}
# Documented variables that are not settings.
OF_THE_COMMAND_LINE = {
    "FASTAPI_TRITON_MODELS_CACHE": "/models-cache",
    "FASTAPI_TRITON_URL": "http://other:8080",
    "FASTAPI_TRITON_KEY": "ftk_x",
}


@pytest.fixture
def environment() -> Iterator[None]:
    """Restores the environment and log handlers that a command changes."""
    with mock.patch.dict(os.environ), mock.patch.object(logging.root, "handlers", list(logging.root.handlers)):
        yield


# ---- variables


def test_variables_injected_by_kubernetes_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Settings()
    for name, value in (INJECTED | OF_THE_COMMAND_LINE).items():
        monkeypatch.setenv(name, value)
    assert Settings() == before


def test_cluster_takes_only_settings_from_the_environment() -> None:
    ours = {"FASTAPI_TRITON_MAX_IN_FLIGHT": "5", "FASTAPI_TRITON_LOG_LEVEL": "debug"}
    variables = frontend_variables(INJECTED | OF_THE_COMMAND_LINE | ours | {"PATH": "/bin"})
    assert variables == ours
    options = ClusterOptions(settings=variables)
    assert (options.frontend_settings.max_in_flight, options.frontend_settings.log_level) == (5, "debug")


def test_no_setting_has_a_name_that_kubernetes_may_inject() -> None:
    for name in map(variable, Settings.model_fields):
        assert name not in INJECTED
        assert not name.endswith(("_PORT", "_SERVICE_HOST", "_TCP", "_TCP_ADDR", "_TCP_PROTO"))


# ---- folders


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder, as with `runAsUser: 12345` in a container."""
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "FASTAPI_TRITON_MODELS_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(Path, "expanduser", lambda self: unknown() if str(self).startswith("~") else self)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_jobs_are_off_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert serve.default_jobs_folder(8080) == ""
    assert "--jobs-folder" in caplog.text


@pytest.mark.usefixtures("homeless")
def test_without_a_home_xdg_state_home_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert serve.default_jobs_folder(8080).startswith(str(tmp_path))


@pytest.mark.usefixtures("homeless")
def test_without_a_home_errors_name_the_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(S3ModelsError, match="FASTAPI_TRITON_MODELS_CACHE"):
        default_cache()
    with pytest.raises(PerfError, match="XDG_CACHE_HOME"):
        tool.cache_folder("aiperf")


def read_only(dir: str | None = None, **_: Any) -> Any:  # noqa: A002  # the library's name
    if dir == "/tmp":
        raise OSError(30, "Read-only file system")
    return mock.MagicMock()


@pytest.mark.usefixtures("environment")
def test_embedded_triton_requires_a_writable_tmp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Triton 2.51's Python backend ignores TMPDIR: it writes to /tmp, and dies if it cannot."""
    monkeypatch.setattr(tempfile, "TemporaryDirectory", read_only)
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    with pytest.raises(EmbeddedTritonError, match=r"writes to /tmp.*Read-only file system.*emptyDir"):
        EmbeddedTriton.prepare(tmp_path)
    done = CliRunner().invoke(app, ["serve", "--embedded", "--models", str(tmp_path), "--port", "0"])
    assert (done.exit_code, len(done.output.splitlines())) == (2, 1)


def test_missing_temporary_folder_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(installation.tempfile, "gettempdir", none)
    monkeypatch.setattr(installation, "_require_writable", lambda *_: None)
    with pytest.raises(EmbeddedTritonError, match="TMPDIR"):
        EmbeddedTriton.prepare(tmp_path)


# ---- Triton behind a path


@pytest.fixture
async def triton() -> AsyncIterator[ScriptedTriton]:
    async with scripted_triton() as found:
        yield found


@pytest.mark.parametrize("slash", ["", "/"])
async def test_requests_to_a_triton_behind_a_path_have_the_path(triton: ScriptedTriton, slash: str) -> None:
    settings = Settings(triton_url=f"{triton.url}/gpu/a%20b{slash}", watch_interval_s=0.05)
    frontend = TritonFrontend(settings=settings, generate=True)
    async with listening(frontend) as client:
        for path in ("/v2", "/v2/health/ready", "/v2/models/echo/config?x=1"):
            assert (await client.get(path)).status_code == 200
        await client.post("/v2/models/echo/infer", content=REQUEST)
        await client.get("/health/ready")
        assert isinstance(frontend.triton, HTTPTriton)
        await frontend.triton._health_check.run()  # by itself it checks only if nothing else polls
    wanted = (b"/v2", b"/v2/health/live", b"/v2/models/echo/config?x=1", b"/v2/models/echo/infer")
    assert {b"/gpu/a%20b" + path for path in wanted} <= targets(triton)
    assert all(each.startswith(b"/gpu/a%20b/v2") for each in targets(triton))
    assert str(frontend.triton.pool.address) == f"{triton.url}/gpu/a%20b"


def targets(triton: ScriptedTriton) -> set[bytes]:
    return {head.split(b" ", 2)[1] for head, _ in triton.requests}


@pytest.mark.parametrize(
    "url",
    [
        "http://triton:8000",
        "https://triton/",
        "http://10.0.0.1:8000/a/b-c_d.e~f",
        "http://[::1]:8000/x",
        f"https://me:{SECRET}@triton:8000/gpu",
    ],
)
def test_triton_url_may_have_a_path(url: str) -> None:
    assert Settings(triton_url=url).triton_url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("triton:8000", "http://host:port"),
        ("grpc://triton:8001", "http://host:port"),
        ("http://", "http://host:port"),
        ("http:///v2", "http://host:port"),
        ("http://triton:http", "http://host:port"),
        ("http://triton:99999", "http://host:port"),
        ("http://[::1:8000", "http://host:port"),
        ("http://triton:8000/a b", "http://host:port"),
        ("http://triton:8000/a\r\nX: y", "http://host:port"),
        ("http://triton:8000/?tenant=a", "query"),
        ("http://triton:8000#a", "fragment"),
        ("http://triton:8000/v2", "remove /v2"),
        ("http://triton:8000/gpu/v2/", "remove /v2"),
        ("http://triton:8000/ä", "its path"),
        ("http://triton:8000//a", "its path"),
    ],
)
def test_invalid_triton_url_is_rejected_with_a_reason(url: str, reason: str) -> None:
    scheme, _, rest = url.partition("://")
    for each in (url, f"{scheme}://me:{SECRET}@{rest}" if rest else url):
        with pytest.raises(ValidationError, match="triton_url") as rejected:
            Settings(triton_url=each)
        assert SECRET not in str(rejected.value)
        assert reason in str(rejected.value)


@pytest.mark.usefixtures("environment")
def test_serve_reports_an_invalid_triton_url_in_one_line() -> None:
    done = CliRunner().invoke(app, ["serve", "--triton", f"http://me:{SECRET}@triton:8000/v2", "--port", "0"])
    assert done.exit_code == 2
    assert done.output.strip() == "TRITON_URL: remove /v2 from its end; the frontend adds it to every request."
