# SPDX-License-Identifier: Apache-2.0
"""A certificate authority for tests, and server certificates of every kind."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


class Authority:
    """Its certificate is in `ca_file`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)

    def certificate(self, name: str, *, is_expired: bool = False) -> Path:
        """Write a file with a certificate for this host or client, and its key."""
        now = datetime.now(UTC)
        ended = now - timedelta(days=1) if is_expired else now + timedelta(days=1)
        made = self._ca.issue_cert(name, not_before=now - timedelta(days=2), not_after=ended)
        file = self._folder / f"{name}{'-expired' if is_expired else ''}.pem"
        made.private_key_and_cert_chain_pem.write_to_path(file)
        return file

    def server(self, name: str = "localhost", *, is_expired: bool = False, clients: bool = False) -> ssl.SSLContext:
        """TLS of a server with this name; with `clients` it requires certificates of this authority from clients."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate(name, is_expired=is_expired))
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca_file)
        return context


@contextmanager
def blunt_server(tls: ssl.SSLContext) -> Iterator[str]:
    """The URL of a server that makes TLS handshakes as OpenSSL does, alerts included, and never responds."""

    def serve() -> None:
        with contextlib.suppress(OSError):  # accepting fails when the listener is closed below
            while True:
                connection, _ = listener.accept()
                with connection.dup() as raw, contextlib.suppress(OSError):
                    with contextlib.suppress(ssl.SSLError), tls.wrap_socket(connection, server_side=True):
                        pass
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(1000):  # closing a connection with unread bytes would drop the alert
                        pass

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://localhost:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)
