# SPDX-License-Identifier: Apache-2.0
"""The app below a prefix behind a real nginx: one server removes the prefix, the other one keeps it."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse

from fastapi_triton import Settings, TritonFrontend
from fastapi_triton.core.context import current_caller
from support.api_keys import DRAWS, RULES, bearer
from support.app_on_socket import listening
from support.received_events import ReceivedEvent, events_of
from support.scribble_app import PATH
from support.scripted_triton import REQUEST, scripted_triton
from support.serving import free_port

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
pytestmark = pytest.mark.skipif(not Path(NGINX).exists(), reason="no nginx here")

CONF = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto https;
  proxy_set_header X-Forwarded-Host draw.example;
  proxy_buffering off; proxy_read_timeout {patience};
  server {{ listen 127.0.0.1:{off};  location /draw/ {{ proxy_pass {app}/; }} }}
  server {{ listen 127.0.0.1:{kept}; location /draw/ {{ proxy_pass {app}; }} }}
}}
"""
OURS = {"trusted_proxies": ("127.0.0.1",), "root_path": "/draw"}


@asynccontextmanager
async def nginx(app: str, folder: Path, *, patience: str = "60s") -> AsyncIterator[tuple[str, str]]:
    """The addresses of the server that removes the prefix, and of the one that keeps it."""
    off, kept = free_port(), free_port()
    conf = folder / "nginx.conf"
    await asyncio.to_thread(conf.write_text, CONF.format(folder=folder, off=off, kept=kept, app=app, patience=patience))
    process = await asyncio.create_subprocess_exec(
        *(NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(conf)), stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(30):
            while True:
                assert process.returncode is None, await process.stderr.read() if process.stderr else ""
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", kept)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{off}", f"http://127.0.0.1:{kept}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@pytest.fixture(autouse=True)
def uvicorn_trusts_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like in `fastapi-triton serve`: only the app's settings name trusted proxies."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")


@pytest.fixture(params=["off", "kept"])
async def proxied(
    app_with: Callable[..., TritonFrontend], tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[httpx2.AsyncClient]:
    app = app_with(**OURS)

    async def whoami(request: Request) -> JSONResponse:
        return JSONResponse({"name": current_caller.get().name, "url": str(request.url_for("whoami"))})

    app.add_route("/models/whoami", whoami, name="whoami")
    app.add_route("/health/whoami", whoami)
    async with listening(app) as direct, nginx(str(direct.base_url).rstrip("/"), tmp_path) as (off, kept):
        address = off if request.param == "off" else kept
        async with httpx2.AsyncClient(base_url=address, timeout=60) as client:
            yield client


async def test_everything_works_below_a_prefix(
    proxied: httpx2.AsyncClient, body: Callable[..., dict[str, Any]]
) -> None:
    page = await proxied.get("/draw/")
    assert page.status_code == 200
    assert 'src="playground/' in page.text
    script = page.text.split('type="module" src="')[1].split('"')[0]
    assert (await proxied.get(f"/draw/{script}")).headers["content-type"].startswith("text/javascript")
    assert (await proxied.get("/draw/playground/model")).status_code == 401
    assert (await proxied.get("/draw/playground/model", headers=bearer(DRAWS))).status_code == 200

    docs = await proxied.get("/draw/docs", headers=bearer(RULES))
    assert '"/draw/openapi.json"' in docs.text
    document = (await proxied.get("/draw/openapi.json", headers=bearer(RULES))).json()
    assert document["servers"] == [{"url": "/draw"}]

    response = await proxied.post(f"/draw{PATH}", json=body(), headers=bearer(DRAWS))
    assert response.status_code == 200
    refused = await proxied.post(f"/draw{PATH}", json=body())
    assert (refused.status_code, refused.json()["code"]) == (401, "missing_key")
    openai = await proxied.get("/draw/v1/models")
    assert (openai.status_code, openai.json()["error"]["code"]) == (401, "missing_key")
    cookie = (await proxied.get("/draw/sdapi/v1/samplers", headers=bearer(DRAWS))).headers["set-cookie"]
    assert "Path=/draw/sdapi" in cookie


async def test_the_caller_is_the_client_of_the_proxy(proxied: httpx2.AsyncClient) -> None:
    forged = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=7.7.7.7"}
    body = (await proxied.get("/draw/health/whoami", headers=forged)).json()
    # The client of nginx is this machine, which is a trusted proxy. So the address left of it counts.
    assert body == {"name": "address:6.6.6.6", "url": "https://draw.example/draw/models/whoami"}
    body = (await proxied.get("/draw/models/whoami", headers=bearer(DRAWS))).json()
    assert body["name"] == "key:draws"


async def test_events_arrive_as_they_are_sent(proxied: httpx2.AsyncClient, body: Callable[..., dict[str, Any]]) -> None:
    headers = {**bearer(DRAWS), "Accept": "text/event-stream"}
    async with proxied.stream("POST", f"/draw{PATH}", json=body(), headers=headers) as response:
        text = "".join([piece async for piece in response.aiter_text()])
    assert "event: completed" in text


async def test_a_redirect_keeps_scheme_host_and_prefix(proxied: httpx2.AsyncClient) -> None:
    response = await proxied.get("/draw/health/whoami/")
    assert (response.status_code, response.headers["location"]) == (307, "https://draw.example/draw/health/whoami")


async def test_hsts_is_sent_behind_a_proxy_with_tls(app_with: Callable[..., TritonFrontend], tmp_path: Path) -> None:
    app = app_with(**OURS, security_headers=True, hsts_max_age_s=60)
    async with listening(app) as direct, nginx(str(direct.base_url).rstrip("/"), tmp_path) as servers:
        for server in servers:
            response = await direct.get(f"{server}/draw/health/live")
            assert response.headers["strict-transport-security"] == "max-age=60"
        assert "strict-transport-security" not in (await direct.get("/health/live")).headers


@pytest.mark.slow
async def test_heartbeats_keep_a_stream_open_beyond_nginx_timeout(
    app_with: Callable[..., TritonFrontend], tmp_path: Path, body: Callable[..., dict[str, Any]]
) -> None:
    app = app_with(**OURS, max_in_flight=1, max_waiting=1, event_heartbeat_s=0.25)
    headers = {**bearer(DRAWS), "Accept": "text/event-stream"}
    async with listening(app) as direct, nginx(str(direct.base_url).rstrip("/"), tmp_path, patience="3s") as (off, _):
        slot = await app.endpoints[0].admission.slot()
        async with direct.stream("POST", f"{off}/draw{PATH}", json=body(), headers=headers) as response:
            assert response.status_code == 200
            events = events_of(response)
            for _ in range(16):
                assert await anext(events) == ReceivedEvent("queued", {"position": 1})
            slot.release()
            assert [each.name async for each in events][-1] == "completed"


async def test_tritons_protocol_works_below_the_prefix(tmp_path: Path) -> None:
    async with scripted_triton() as triton:
        app = TritonFrontend(settings=Settings(triton_url=triton.url, root_path="/draw"))
        async with listening(app) as direct, nginx(str(direct.base_url).rstrip("/"), tmp_path) as servers:
            for server in servers:
                response = await direct.post(f"{server}/draw/v2/models/a%20b/infer?x", content=REQUEST)
                assert response.status_code == 200
    assert [head.split(b"\r\n")[0] for head, _ in triton.requests] == [b"POST /v2/models/a%20b/infer?x HTTP/1.1"] * 2
