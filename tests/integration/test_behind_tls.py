# SPDX-License-Identifier: Apache-2.0
"""A real Triton behind nginx with TLS and a token: every kind of request works, and no output shows the token."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.cli import main
from support.certificate_authority import Authority
from support.nginx_proxy import TOKEN, nginx_before
from support.perf_analyzer import PerfAnalyzer
from support.serving import Server

pytestmark = pytest.mark.integration


class CountRequest(BaseModel):
    text: str


class CountResponse(BaseModel):
    text: str


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def proxy(count_server: Server, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("nginx")
    with nginx_before(count_server.triton_url, certificate=authority.certificate("localhost"), folder=folder) as url:
        yield url


def frontend(**settings: object) -> TritonFrontend:
    app = TritonFrontend(settings=Settings(generate=True, **settings))  # type: ignore[arg-type]
    app.infer("/count", model="count", stream_model="count_stream", request=CountRequest, response=CountResponse)
    return app


@asynccontextmanager
async def calling(app: TritonFrontend) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test", timeout=60) as http,
    ):
        yield http


async def test_requests_of_every_kind_pass_the_proxy(proxy: str, authority: Authority, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    async with calling(frontend(triton_url=proxy, triton_ca_file=authority.ca_file, triton_token_file=token)) as http:
        assert (await http.get("/health/ready")).json()["status"] == "ready"
        large = "echo " + "a" * 1_500_000
        assert (await http.post("/count", json={"text": large})).json()["text"] == large[5:]
        assert (await http.get("/v2/models/count/config")).json()["name"] == "count"
        failed = await http.post("/models/count/infer", json={"text": "a"})  # Triton's own error, from /infer
        assert failed.json()["code"] == "inference_failed"


@pytest.mark.parametrize(
    ("scheme", "settings", "code", "text"),
    [
        (
            "https",
            {"triton_token": "another"},
            "triton_access_denied",
            "rejects the frontend's credentials (401)",
        ),
        ("http", {"triton_token": TOKEN}, "triton_tls_failed", "its URL says http, but the port speaks TLS"),
    ],
)
async def test_readiness_and_requests_report_wrong_credentials_and_tls(
    proxy: str, authority: Authority, scheme: str, settings: dict[str, str], code: str, text: str
) -> None:
    url = proxy.replace("https", scheme)
    async with calling(frontend(triton_url=url, triton_ca_file=authority.ca_file, **settings)) as http:
        (state,) = (await http.get("/health/ready")).json()["endpoints"]
        assert state["code"] == code
        assert text in state["detail"]
        response = await http.post("/count", json={"text": "echo a"})
        assert (response.status_code, response.json()["code"]) == (503, code)


@pytest.mark.parametrize("is_known", [True, False])
def test_check_passes_the_proxy(
    proxy: str, authority: Authority, is_known: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_CA_FILE", str(authority.ca_file))
    monkeypatch.setenv("TRITON_TOKEN", TOKEN if is_known else "an0ther")
    done = CliRunner().invoke(main.app, ["check", "--json", "--trial", "--triton", proxy])
    assert TOKEN not in done.output
    assert "an0ther" not in done.output
    if is_known:
        codes = {each["code"] for each in json.loads(done.stdout)["findings"]}
        assert codes >= {"trial-refused"}, done.output
    else:
        assert done.exit_code == 2
        assert "rejects the frontend's credentials (401)" in done.stderr


@pytest.mark.slow
def test_perf_passes_the_proxy(
    echo_server: Server,
    perf_analyzer: PerfAnalyzer,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TRITON_CA_FILE", str(authority.ca_file))
    monkeypatch.setenv("TRITON_TOKEN", TOKEN)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(perf_analyzer.libraries))
    request = tmp_path / "request.json"
    request.write_text('{"text": "a"}')
    certificate = authority.certificate("localhost")
    with nginx_before(echo_server.triton_url, certificate=certificate, folder=tmp_path) as proxy:
        where = ("--triton", proxy, "--frontend", echo_server.url, "--perf-analyzer", str(perf_analyzer.binary))
        few = ("--concurrency", "1", "--rounds", "1", "--requests", "5", "--window-ms", "100")
        output = ("--input", str(request), "--output", str(tmp_path / "out"))
        done = CliRunner().invoke(main.app, ["perf", "echo", *where, *few, *output])
    assert done.exit_code == 0, done.output
    (level,) = json.loads((tmp_path / "out" / "echo-results.json").read_text())["levels"]
    assert level["triton"][0]["inferences_per_s"] > 0
    assert TOKEN not in done.output
