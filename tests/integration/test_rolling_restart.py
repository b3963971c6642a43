# SPDX-License-Identifier: Apache-2.0
"""Two frontends behind nginx are restarted one after the other under load: nothing is lost, and nothing runs twice."""

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

from support.serving import ECHO_APP, Server, free_port

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx here"),
]

NUM_CALLERS = 2  # the model has room for three
# As docs/deploy.md has it.
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
    upstream frontends {{
        server 127.0.0.1:{ports[0]} max_fails=0;
        server 127.0.0.1:{ports[1]} max_fails=0;
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://frontends;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream error http_503 non_idempotent;
        }}
    }}
}}
"""


@contextmanager
def nginx(folder: Path, ports: tuple[int, int]) -> Iterator[str]:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, ports=ports))
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


class Caller(threading.Thread):
    """Asks again as soon as it is answered, until it is told to stop."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.url, self.stop = url, stop
        self.statuses: list[int] = []
        self.refusals: list[str] = []

    def run(self) -> None:
        with httpx2.Client(base_url=self.url, timeout=60) as client:
            while not self.stop.is_set():
                answer = client.post("/echo", json={"text": f"{self.ident} {len(self.statuses)}"})
                self.statuses.append(answer.status_code)
                if answer.status_code != 200:
                    self.refusals.append(answer.text)


def test_a_rolling_restart_loses_nothing(echo_server: Server, tmp_path: Path) -> None:
    def start(port: int) -> Server:
        command = [sys.executable, "-m", "fastapi_triton", "serve", "--triton", f"http://{echo_server.triton_url}"]
        return Server([*command, "--shutdown-delay-s", "0.5"], folder=ECHO_APP, port=port).wait_until_ready()

    series = 'nv_inference_count{model="echo",version="1"}'
    before = echo_server.counted(series)
    stop = threading.Event()
    frontends = [start(free_port()), start(free_port())]
    try:
        with nginx(tmp_path, (frontends[0].port, frontends[1].port)) as url:
            callers = [Caller(url, stop) for _ in range(NUM_CALLERS)]
            for caller in callers:
                caller.start()
            for number in range(2):
                frontends[number].process.send_signal(signal.SIGTERM)
                assert frontends[number].process.wait(60) == 0
                frontends[number].stop()
                frontends[number] = start(frontends[number].port)
            stop.set()
            for caller in callers:
                caller.join(60)
        statuses = [status for caller in callers for status in caller.statuses]
        assert len(statuses) > 100
        told = [refusal for caller in callers for refusal in caller.refusals]
        assert told == [], (tmp_path / "error.log").read_text()
        assert echo_server.counted(series) - before == len(statuses)
    finally:
        stop.set()
        for frontend in frontends:
            frontend.stop()
