# SPDX-License-Identifier: Apache-2.0
"""nginx in front of Triton with TLS and a required token."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.serving import free_port, running

TOKEN = "a-t0ken-0f-ours"
CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr info;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream triton {{ server {triton}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    client_max_body_size 0;
    location / {{
      if ($http_authorization != "Bearer {token}") {{ return 401; }}
      proxy_pass http://triton;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
    }}
  }}
}}
"""


@contextmanager
def nginx_before(triton: str, *, certificate: Path, folder: Path) -> Iterator[str]:
    """The URL of the proxy, which listens already; `triton` is host and port."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        pytest.skip("nginx is not installed")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, triton=triton, port=port, certificate=certificate, token=TOKEN))
    with running([binary, "-c", str(config), "-p", str(folder)], until="start worker process "):
        yield f"https://localhost:{port}"
