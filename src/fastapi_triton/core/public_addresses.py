# SPDX-License-Identifier: Apache-2.0
"""Checks whether an IP address is public, by IANA's special-purpose address registries.

`ipaddress.is_global` is not enough: its result depends on the Python release, and the deprecated site-local `fec0::/10`
and the local-use NAT64 prefix `64:ff9b:1::/48` are global for it.
"""

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

# https://www.iana.org/assignments/iana-ipv4-special-registry, without its few globally reachable blocks, plus multicast
# and the former class E.
_SPECIAL_V4 = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, the metadata services of clouds among them
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, deprecated
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# https://www.iana.org/assignments/ipv6-address-space: all global unicast addresses that are assigned so far.
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
# The blocks of https://www.iana.org/assignments/iana-ipv6-special-registry within global unicast.
_SPECIAL_V6 = tuple(
    IPv6Network(block)
    for block in (
        "2001::/23",  # IETF protocol assignments: Teredo, ORCHID, benchmarks and others
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which routes to the embedded IPv4 address
        "3fff::/20",  # documentation
    )
)
# With NAT64, the name of an IPv4 server resolves to an address with this prefix and the IPv4 address at its end.
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether the address is on the public internet. If an IPv6 address embeds an IPv4 address, that one is checked.

    Raises:
        ValueError: it is not an IP address.
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, IPv6Address):
        return _is_public_v6(parsed)
    return not any(parsed in block for block in _SPECIAL_V4)


def _is_public_v6(address: IPv6Address) -> bool:
    if address.scope_id is not None:  # such as `%eth0`: only valid on one link
        return False
    embedded = address.ipv4_mapped
    if embedded is None and address in _NAT64:
        embedded = IPv4Address(int(address) & 0xFFFFFFFF)
    if embedded is not None:
        return is_public(str(embedded))
    return address in _GLOBAL_UNICAST_V6 and not any(address in block for block in _SPECIAL_V6)
