# SPDX-License-Identifier: Apache-2.0
"""A real S3 API on loopback (moto's server), behind a layer that breaks its answers where a test says so."""

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
Answer = tuple[str, list[tuple[str, str]], bytes]  # status line, headers, body
Fault = Callable[[WSGIEnvironment, Answer], Answer | None]


class Store:
    """The server, its one bucket, what was read of it, and what shall go wrong."""

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
        told: list[Any] = []
        body = b"".join(self._moto(environ, lambda status, headers, *rest: told.extend((status, headers))))
        answer: Answer = (told[0], list(told[1]), body)
        for fault in self._faults:
            answer = fault(environ, answer) or answer
        start_response(answer[0], answer[1])
        return [answer[2]]

    def put(self, key: str, data: bytes | str = b"", **arguments: Any) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=data, **arguments)

    def remove(self, key: str) -> None:
        self.s3.delete_object(Bucket=BUCKET, Key=key)

    def empty(self) -> None:
        """A new bucket, and nothing goes wrong any more."""
        self._faults.clear()
        s3_backends.reset()  # those of all services
        self.s3.create_bucket(Bucket=BUCKET)
        self.requests.clear()

    def asked(self, words: str) -> int:
        """How many requests had these words."""
        return sum(words in request for request in self.requests)

    # --- what shall go wrong; `where` is part of "GET /my-bucket/key" ---

    def answer(self, where: str, status: str, code: str, *, times: int | None = None, **headers: str) -> None:
        """An error of S3's instead of the answer."""
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} it is.</Message></Error>".encode()
        lines = [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), *headers.items()]
        self._break(where, times, lambda _: (status, lines, body))

    def cut(self, where: str, *, after: int, times: int | None = None) -> None:
        """The body ends early; its Content-Length does not say so."""
        self._break(where, times, lambda answer: (answer[0], answer[1], answer[2][:after]))

    def damage(self, where: str, *, times: int | None = None) -> None:
        """The right number of bytes, one of them wrong."""
        self._break(where, times, lambda answer: (answer[0], answer[1], bytes([answer[2][0] ^ 1]) + answer[2][1:]))

    def hide_checksums(self, where: str) -> None:
        """As stores that have none but the ETag."""
        self._break(
            where,
            None,
            lambda answer: (answer[0], [each for each in answer[1] if "checksum" not in each[0]], answer[2]),
        )

    def refuse_checksum_headers(self, status: str) -> None:
        """As stores that refuse headers which they do not know."""
        body = b"<?xml version='1.0'?><Error><Code>Unknown</Code><Message>Unsupported header.</Message></Error>"
        lines = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]

        def fault(environ: WSGIEnvironment, _: Answer) -> Answer | None:
            names = [name for name in environ if name.startswith("HTTP_X_AMZ_") and "CHECKSUM" in name]
            return (status, lines, body) if names else None

        self._faults.append(fault)

    def repeat(self, where: str) -> None:
        """The body twice, and the length of that."""

        def twice(answer: Answer) -> Answer:
            headers = [each for each in answer[1] if each[0].lower() == "etag"]
            return answer[0], [*headers, ("Content-Length", str(2 * len(answer[2])))], answer[2] * 2

        self._break(where, None, twice)

    def call(self, where: str, function: Callable[[], None], *, times: int | None = None) -> None:
        """Something happens when this is asked for, after the answer was made and before it is given."""

        def called(answer: Answer) -> Answer:
            function()
            return answer

        self._break(where, times, called)

    def _break(self, where: str, times: int | None, change: Callable[[Answer], Answer]) -> None:
        left = [times]
        lock = threading.Lock()

        def fault(environ: WSGIEnvironment, answer: Answer) -> Answer | None:
            if where not in f"{environ['REQUEST_METHOD']} {unquote(environ['RAW_URI'])}":
                return None
            with lock:
                if left[0] is not None:
                    if not left[0]:
                        return None
                    left[0] -= 1
            return change(answer)

        self._faults.append(fault)
