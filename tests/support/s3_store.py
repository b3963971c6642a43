# SPDX-License-Identifier: Apache-2.0
"""A real S3 API on loopback (moto's server), with a layer in front that damages responses on request of a test."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

BUCKET = "my-bucket"
Response = tuple[str, list[tuple[str, str]], bytes]  # status line, headers, body
Fault = Callable[[WSGIEnvironment, Response], Response | None]


class Store:
    """The server with its one bucket, a list of the read requests, and the faults to inject."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._faults: list[Fault] = []
        self.requests: list[str] = []  # "GET /my-bucket/key bytes=0-9"
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.s3: Any = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    @contextmanager
    def running(self) -> Iterator["Store"]:
        self._thread.start()
        try:
            yield self
        finally:
            self.s3.close()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            self.requests.append(
                f"{environ['REQUEST_METHOD']} {unquote(environ['RAW_URI'])} {environ.get('HTTP_RANGE', '')}"
            )
        start: list[Any] = []
        body = b"".join(self._moto(environ, lambda status, headers, *rest: start.extend((status, headers))))
        response: Response = (start[0], list(start[1]), body)
        for fault in self._faults:
            response = fault(environ, response) or response
        start_response(response[0], response[1])
        return [response[2]]

    def put(self, key: str, data: bytes | str = b"", **arguments: Any) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=data, **arguments)

    def remove(self, key: str) -> None:
        self.s3.delete_object(Bucket=BUCKET, Key=key)

    def empty(self) -> None:
        """Make a new bucket, and remove all faults."""
        self._faults.clear()
        s3_backends.reset()  # resets all services
        self.s3.create_bucket(Bucket=BUCKET)
        self.requests.clear()

    def num_requests(self, words: str) -> int:
        """The number of requests that contain `words`."""
        return sum(words in request for request in self.requests)

    # --- faults; `where` is part of "GET /my-bucket/key" ---

    def fail(self, where: str, status: str, code: str, *, times: int | None = None, **headers: str) -> None:
        """Respond with an error of S3."""
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}.</Message></Error>".encode()
        lines = [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), *headers.items()]
        self._break(where, times, lambda _: (status, lines, body))

    def cut(self, where: str, *, after: int, times: int | None = None) -> None:
        """End the body early, with the Content-Length of the whole."""
        self._break(where, times, lambda response: (response[0], response[1], response[2][:after]))

    def damage(self, where: str, *, times: int | None = None) -> None:
        """Change one byte of the body."""
        self._break(
            where, times, lambda response: (response[0], response[1], bytes([response[2][0] ^ 1]) + response[2][1:])
        )

    def hide_checksums(self, where: str) -> None:
        """Behave like stores that have only the ETag."""
        self._break(
            where,
            None,
            lambda response: (response[0], [each for each in response[1] if "checksum" not in each[0]], response[2]),
        )

    def reject_checksum_headers(self, status: str) -> None:
        """Behave like stores that reject unknown headers."""
        body = b"<?xml version='1.0'?><Error><Code>Unknown</Code><Message>Unsupported header.</Message></Error>"
        lines = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]

        def fault(environ: WSGIEnvironment, _: Response) -> Response | None:
            names = [name for name in environ if name.startswith("HTTP_X_AMZ_") and "CHECKSUM" in name]
            return (status, lines, body) if names else None

        self._faults.append(fault)

    def repeat(self, where: str) -> None:
        """Send the body twice, with that Content-Length."""

        def twice(response: Response) -> Response:
            headers = [each for each in response[1] if each[0].lower() == "etag"]
            return response[0], [*headers, ("Content-Length", str(2 * len(response[2])))], response[2] * 2

        self._break(where, None, twice)

    def call(self, where: str, function: Callable[[], None], *, times: int | None = None) -> None:
        """Call the function for each such request, between making and sending the response."""

        def called(response: Response) -> Response:
            function()
            return response

        self._break(where, times, called)

    def _break(self, where: str, times: int | None, change: Callable[[Response], Response]) -> None:
        left = [times]
        lock = threading.Lock()

        def fault(environ: WSGIEnvironment, response: Response) -> Response | None:
            if where not in f"{environ['REQUEST_METHOD']} {unquote(environ['RAW_URI'])}":
                return None
            with lock:
                if left[0] is not None:
                    if not left[0]:
                        return None
                    left[0] -= 1
            return change(response)

        self._faults.append(fault)
