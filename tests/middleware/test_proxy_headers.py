# SPDX-License-Identifier: Apache-2.0
"""Proxy headers are read only from trusted proxies, from the right. Forged headers have no effect."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_triton.middleware.proxy_headers import Header, Proxies, ProxyHeadersMiddleware

OURS = ("10.0.0.0/8", "2001:db8::/32", "127.0.0.1")


async def seen(
    *headers: tuple[str, str],
    client: Any = ("10.0.0.1", 5),
    ours: tuple[str, ...] = OURS,
    header: Header = "x-forwarded",
) -> tuple[str, str, str]:
    """The client's address, the scheme and the host, as the app sees them."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    raw = [(b"host", b"inner:8080"), *((name.lower().encode(), value.encode("latin-1")) for name, value in headers)]
    scope = {"type": "http", "client": client, "scheme": "http", "headers": raw}
    await ProxyHeadersMiddleware(app, Proxies(ours), header)(scope, None, None)  # type: ignore[arg-type]
    (scope,) = scopes
    hosts = [value.decode() for name, value in scope["headers"] if name == b"host"]
    return scope["client"][0] if scope["client"] else "", scope["scheme"], ",".join(hosts)


FOR, PROTO, HOST = "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"
NOTHING = ("10.0.0.1", "http", "inner:8080")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], NOTHING),
        ([(FOR, "1.2.3.4")], ("1.2.3.4", "http", "inner:8080")),
        ([(FOR, "1.2.3.4"), (PROTO, "https"), (HOST, "draw.example")], ("1.2.3.4", "https", "draw.example")),
        ([(PROTO, "HTTPS")], ("10.0.0.1", "https", "inner:8080")),
        # the client forged the first address
        ([(FOR, "127.0.0.1, 1.2.3.4")], ("1.2.3.4", "http", "inner:8080")),
        ([(FOR, "127.0.0.1"), (FOR, "1.2.3.4")], ("1.2.3.4", "http", "inner:8080")),
        # through two trusted proxies
        ([(FOR, "6.6.6.6, 1.2.3.4, 10.0.0.9")], ("1.2.3.4", "http", "inner:8080")),
        ([(FOR, "1.2.3.4, 10.0.0.9"), (PROTO, "https, http")], ("1.2.3.4", "https", "inner:8080")),
        # a trusted proxy is the client
        ([(FOR, "10.0.0.7, 10.0.0.9")], ("10.0.0.7", "http", "inner:8080")),
        ([(FOR, "2001:db9::1")], ("2001:db9::1", "http", "inner:8080")),
        ([(FOR, "[2001:db9::1]:443")], ("2001:db9::1", "http", "inner:8080")),
        ([(FOR, "1.2.3.4:5678")], ("1.2.3.4", "http", "inner:8080")),
        ([(FOR, "unknown")], NOTHING),
        ([(FOR, "1.2.3.4, unknown")], NOTHING),
        ([(FOR, "")], NOTHING),
        ([(FOR, "1.2.3.4,")], NOTHING),
        ([(PROTO, "javascript"), (HOST, "a b/../c")], NOTHING),
        ([(HOST, "evil.example/path")], NOTHING),
        # the other kind of header is ignored
        ([("Forwarded", "for=6.6.6.6;host=evil")], NOTHING),
    ],
)
async def test_x_forwarded(headers: list[tuple[str, str]], expected: tuple[str, str, str]) -> None:
    assert await seen(*headers) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=1.2.3.4;proto=https;host=draw.example", ("1.2.3.4", "https", "draw.example")),
        ('For="[2001:db9::1]:47011" ; PROTO=https', ("2001:db9::1", "https", "inner:8080")),
        ("for=6.6.6.6;host=evil, for=1.2.3.4;proto=https", ("1.2.3.4", "https", "inner:8080")),
        ("for=1.2.3.4;proto=https, for=10.0.0.9;proto=http", ("1.2.3.4", "https", "inner:8080")),
        ('for="1.2.3.4\\"";by=x', NOTHING),
        ("for=_hidden;proto=https", ("10.0.0.1", "https", "inner:8080")),
        ('for="6.6.6.6, for=1.2.3.4', NOTHING),
        (";;;", NOTHING),
        ("for=1.2.3.4 proto=https", NOTHING),
    ],
)
async def test_forwarded(value: str, expected: tuple[str, str, str]) -> None:
    assert await seen(("Forwarded", value), (FOR, "7.7.7.7"), header="forwarded") == expected


async def test_headers_of_untrusted_peers_are_ignored() -> None:
    data = ((FOR, "1.2.3.4"), (PROTO, "https"), (HOST, "evil"))
    assert await seen(*data, client=("11.0.0.1", 5)) == ("11.0.0.1", "http", "inner:8080")
    assert await seen(*data, client=None) == ("", "http", "inner:8080")
    assert await seen(*data, client=("testclient", 5)) == ("testclient", "http", "inner:8080")


async def test_a_proxy_on_a_unix_socket_is_trusted_only_if_configured() -> None:
    for client in (None, ("", 0)):
        assert await seen((FOR, "1.2.3.4"), client=client, ours=("unix",)) == ("1.2.3.4", "http", "inner:8080")
    assert await seen((FOR, "1.2.3.4, unknown"), client=None, ours=("unix",)) == ("", "http", "inner:8080")


async def test_an_ipv4_mapped_ipv6_address_is_an_ipv4_address() -> None:
    assert (await seen((FOR, "1.2.3.4"), client=("::ffff:10.0.0.1", 5)))[0] == "1.2.3.4"


def test_a_malformed_network_is_rejected_at_the_start() -> None:
    with pytest.raises(ValueError, match="example"):
        Proxies(["proxy.example"])


texts = st.text(st.sampled_from('fFor=prtohs;,"\\[]:.0123456789abc _-\t'), max_size=80)


@given(st.lists(texts, max_size=4), st.sampled_from(["x-forwarded", "forwarded"]))
async def test_any_header_gives_a_valid_address_or_none(values: list[str], header: Header) -> None:
    names = [(name, value) for value in values for name in ("Forwarded", FOR, PROTO, HOST)]
    address, scheme, _ = await seen(*names, header=header)
    assert set(address) <= set("0123456789abcdef:.")
    assert scheme in ("http", "https")
