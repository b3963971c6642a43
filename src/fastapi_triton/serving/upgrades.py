# SPDX-License-Identifier: Apache-2.0
"""Reads requests with `Upgrade: h2c` and similar as plain HTTP/1.1 (RFC 9110, section 7.8).

Java's HttpClient, Spring and `curl --http2` send it with their first request. httptools reports such a request as
complete after its head, and skips its body. So the parser gets the head again, without the `Upgrade` header.
"""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def feed_rest(protocol: HttpToolsProtocol, data: bytes | memoryview, upgrade: httptools.HttpParserUpgrade) -> None:
    """Continue after a head with an upgrade. All upgrades are ignored, except to a websocket.

    Raises:
        HttpParserError: this is not HTTP/1.1, or one of the protocol's callbacks raised.
    """
    while True:
        if protocol._should_upgrade():
            protocol.handle_websocket_upgrade()
            return
        data = memoryview(data)[upgrade.args[0] :]
        head = _head_without_upgrade(protocol)
        protocol.parser = httptools.HttpRequestParser(protocol)
        protocol.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        protocol.parser.feed_data(head)
        try:
            protocol.parser.feed_data(data)
            return
        except httptools.HttpParserUpgrade as another:
            upgrade = another


def _head_without_upgrade(protocol: HttpToolsProtocol) -> bytes:
    parser = protocol.parser
    request_line = b"%b %b HTTP/%b\r\n" % (parser.get_method(), protocol.url, parser.get_http_version().encode())
    fields = [b"%b: %b\r\n" % each for each in protocol.headers if each[0] != b"upgrade"]
    return b"".join((request_line, *fields, b"\r\n"))
