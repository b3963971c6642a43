# SPDX-License-Identifier: Apache-2.0
"""`--host ::` accepts IPv6 and IPv4, and prints an address that works."""

import socket
import sys
from pathlib import Path

import httpx2
import pytest

from fastapi_triton.serving import listen_address
from support.serving import Server

HAS_IPV6 = socket.has_dualstack_ipv6()
PLAIN_APP = (
    "from fastapi import FastAPI\n\napp = FastAPI()\n\n\n@app.get('/a')\nasync def a() -> str:\n    return 'a'\n"
)


@pytest.mark.skipif(not HAS_IPV6, reason="needs IPv6 in the kernel")
@pytest.mark.parametrize("more", [(), pytest.param(("--workers", "2"), marks=pytest.mark.slow)])
def test_server_is_reachable_at_the_printed_address(tmp_path: Path, more: tuple[str, ...]) -> None:
    (tmp_path / "main.py").write_text(PLAIN_APP)
    command = [sys.executable, "-m", "fastapi_triton", "serve", "--triton", "http://127.0.0.1:9", "--host", "::", *more]
    server = Server(command, folder=tmp_path)
    try:
        url = server.wait_for(r"Ready: (\S+)")[1]
        for each in (url, f"http://127.0.0.1:{server.port}", f"http://[::1]:{server.port}"):
            assert httpx2.get(f"{each}/a").json() == "a"
    finally:
        server.stop()


def test_all_spellings_of_the_wildcard_address_are_known() -> None:
    assert all(map(listen_address.is_every_address, ("::", "0.0.0.0", "0:0:0:0:0:0:0:0")))
    assert not any(map(listen_address.is_every_address, ("::1", "127.0.0.1", "localhost", "", "example.com")))
