# SPDX-License-Identifier: Apache-2.0
"""Webhooks are sent only to public addresses, however a URL or the DNS spells a private one."""

import socket
from typing import Any

import pytest

from fastapi_triton.core.errors import InvalidRequestError
from fastapi_triton.core.public_addresses import is_public
from fastapi_triton.jobs.webhooks import NotDeliveredError, Webhooks

PRIVATE = [
    # IANA's registry of special IPv4 addresses: the first and the last of each block.
    *("0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255"),
    *("127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254", "172.16.0.0", "172.31.255.255"),
    *("192.0.0.0", "192.0.0.9", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.0.0", "192.168.255.255"),
    *("198.18.0.0", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255"),
    *("240.0.0.1", "255.255.255.255"),
    # The same within IPv6 addresses.
    *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe"),
    *("2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::127.0.0.1"),
    # IPv6.
    *("::", "::1", "64:ff9b:1::1", "64:ff9b:1:ffff::808:808", "100::1", "100:0:0:1::1", "2001::1", "2001:2::1"),
    *("2001:10::1", "2001:20::1", "2001:1ff::1", "2001:db8::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00::1"),
    *("fe80::1", "fe80::1%lo", "2606:4700::1111%lo", "febf::1", "fec0::1", "feff::1", "ff02::1", "ff0e::1"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.31.196.1"),
    *("192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"),
    *("2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700:4700::1111", "2a00:1450:4001::1", "2620:4f:8000::1"),
    *("::ffff:8.8.8.8", "64:ff9b::808:808"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_global_unicast_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", [each for each in PRIVATE if "%" not in each])
def test_url_with_a_special_address_is_rejected_at_once(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidRequestError) as rejected:
        Webhooks("secret").checked(f"https://{host}/")
    assert rejected.value.code == "invalid_webhook_url"


@pytest.mark.parametrize("address", PUBLIC)
def test_url_with_a_public_address_is_accepted(address: str) -> None:
    url = f"https://[{address}]/" if ":" in address else f"https://{address}/"
    assert Webhooks("secret").checked(url) == url


@pytest.mark.parametrize("address", [each for each in PRIVATE if "%" not in each])
async def test_name_that_resolves_to_a_special_address_is_not_contacted(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where: tuple[Any, ...] = (address, 443, 0, 0) if ":" in address else (address, 443)

    def resolved(*_: Any, **__: Any) -> list[Any]:
        return [(family, socket.SOCK_STREAM, 6, "", where)]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with pytest.raises(NotDeliveredError, match="is not a public address"):
        await Webhooks("secret").send("id", "https://rebound.example.org/", "completed")


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f000001", "0x7f.1", "017700000001", "127.0.0.1."])
async def test_number_that_the_c_library_reads_as_an_address_is_not_contacted(host: str) -> None:
    webhooks, url = Webhooks("secret"), f"https://{host}:1/"
    try:
        webhooks.checked(url)
    except InvalidRequestError:
        return
    with pytest.raises(NotDeliveredError) as rejected:
        await webhooks.send("id", url, "completed")
    # Not "connection refused", the error of a connection to this machine.
    assert "Errno 111" not in str(rejected.value)
    assert "Connect call failed" not in str(rejected.value)
