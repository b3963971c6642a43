# SPDX-License-Identifier: Apache-2.0
"""Requests that ask for an upgrade, `Upgrade: h2c` above all: read as plain HTTP/1.1 (RFC 9110, section 7.8).

Java's HttpClient, Spring and `curl --http2` ask for it with every first request. httptools reports such a request
complete after its head and skips its body. So the parser gets the head once more, without its `Upgrade`.
"""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def feed_rest(protocol: HttpToolsProtocol, data: bytes | memoryview, upgrade: httptools.HttpParserUpgrade) -> None:
    """Go on after a head that asks for an upgrade, ignoring upgrades other than those to a websocket.

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
