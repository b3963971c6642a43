# SPDX-License-Identifier: Apache-2.0
"""Two frontends behind nginx restart one after the other under load: no request fails, and none runs twice."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from support.paths import ROOT
from support.serving import ECHO_APP, Server, free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]

NUM_CLIENTS = 2  # the model has three slots
PAGE = ROOT / "docs" / "security.md"
CONFIG = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {example}
}}
"""


def documented_config(port: int, frontend_ports: tuple[int, int]) -> str:
    """The nginx example of the page, with this test's ports."""
    (example,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for address, frontend_port in zip(("10.0.0.1:8080", "10.0.0.2:8080"), frontend_ports, strict=True):
        assert address in example
        example = example.replace(address, f"127.0.0.1:{frontend_port}")
    return str(example).replace("server {", f"server {{ listen 127.0.0.1:{port};")


@contextmanager
def nginx(folder: Path, ports: tuple[int, int]) -> Iterator[str]:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, example=documented_config(port, ports)))
    process = subprocess.Popen(["nginx", "-c", str(config), "-e", str(folder / "error.log")])
    try:
        waiting = threading.Event()
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
                waiting.wait(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


class Client(threading.Thread):
    """Sends a request after each response, until `stop` is set."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.url, self.stop = url, stop
        self.statuses: list[int] = []
        self.errors: list[str] = []

    def run(self) -> None:
        with httpx2.Client(base_url=self.url, timeout=60) as http:
            while not self.stop.is_set():
                response = http.post("/echo", json={"text": f"{self.ident} {len(self.statuses)}"})
                self.statuses.append(response.status_code)
                if response.status_code != 200:
                    self.errors.append(response.text)


def test_rolling_restart_loses_no_request(echo_server: Server, tmp_path: Path) -> None:
    def start(port: int) -> Server:
        command = [sys.executable, "-m", "fastapi_triton", "serve", "--triton", f"http://{echo_server.triton_url}"]
        return Server([*command, "--shutdown-delay-s", "0.5"], folder=ECHO_APP, port=port).wait_until_ready()

    series = 'nv_inference_count{model="echo",version="1"}'
    before = echo_server.counted(series)
    stop = threading.Event()
    frontends = [start(free_port()), start(free_port())]
    try:
        with nginx(tmp_path, (frontends[0].port, frontends[1].port)) as url:
            clients = [Client(url, stop) for _ in range(NUM_CLIENTS)]
            for client in clients:
                client.start()
            for number in range(2):
                frontends[number].process.send_signal(signal.SIGTERM)
                assert frontends[number].process.wait(60) == 0
                frontends[number].stop()
                frontends[number] = start(frontends[number].port)
            stop.set()
            for client in clients:
                client.join(60)
        statuses = [status for client in clients for status in client.statuses]
        assert len(statuses) > 100
        errors = [error for client in clients for error in client.errors]
        assert errors == [], (tmp_path / "error.log").read_text()
        assert echo_server.counted(series) - before == len(statuses)
    finally:
        stop.set()
        for frontend in frontends:
            frontend.stop()
