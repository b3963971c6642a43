# SPDX-License-Identifier: Apache-2.0
"""Rate limits: a burst at once, then one request per interval; and a bounded number of callers by address."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastapi_triton.middleware.auth.anonymous_clients import AnonymousClients
from fastapi_triton.middleware.auth.keys import Limits
from fastapi_triton.middleware.auth.rate_limit import TokenBucket, default_burst


def test_a_burst_at_once_and_then_one_per_interval() -> None:
    bucket = TokenBucket(requests_per_minute=30, burst=4)
    assert [bucket.take(100.0) for _ in range(4)] == [0, 0, 0, 0]
    assert bucket.take(100.0) == pytest.approx(2.0, abs=1e-5)
    assert bucket.take(101.0) == pytest.approx(1.0, abs=1e-5)
    assert bucket.take(102.0) == 0
    assert bucket.take(102.0) == pytest.approx(2.0, abs=1e-5)
    assert [bucket.take(1000.0) for _ in range(4)] == [0, 0, 0, 0]
    assert bucket.take(1000.0) > 0


@given(
    st.floats(0.01, 100_000),
    st.integers(1, 1000),
    st.lists(st.floats(0, 100), min_size=1, max_size=200),
)
@example(1.0, 1, [0.0, 0.0])
def test_the_rate_is_never_exceeded_and_the_returned_wait_is_enough(
    rate: float, burst: int, pauses: list[float]
) -> None:
    bucket, now, given_at = TokenBucket(rate, burst), 1e6, []
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        if wait:
            now += wait
            assert bucket.take(now) == 0
        given_at.append(now)
    for first in range(0, len(given_at), 10):
        for last in range(first, len(given_at), 10):
            allowed = burst + (given_at[last] - given_at[first]) * rate / 60
            assert last - first + 1 <= allowed + 1.01


def test_the_default_burst_is_the_requests_of_ten_seconds() -> None:
    assert [default_burst(rate) for rate in (1, 60, 600)] == [1, 10, 100]


def test_the_number_of_addresses_is_bounded_and_the_oldest_is_dropped() -> None:
    addresses = AnonymousClients(Limits(requests_per_minute=1, burst=1), max_addresses=100)
    first = addresses.find(("10.0.0.1", 1))
    for number in range(99):
        addresses.find((f"10.0.1.{number}", 1))
        assert addresses.find(("10.0.0.1", 2)) is first
    for number in range(100):
        addresses.find((f"10.0.2.{number}", 1))
    assert len(addresses) == 100
    assert addresses.find(("10.0.0.1", 1)) is not first


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        (["10.0.0.1", "::ffff:10.0.0.1"], "address:10.0.0.1"),
        (["2001:db8::1", "2001:db8::ffff:1:2:3", "2001:db8:0:0:1::%eth0"], "address:2001:db8::/64"),
        (["not an address"], "address:not an address"),
    ],
)
def test_addresses_of_one_ipv6_network_are_one_caller(hosts: list[str], name: str) -> None:
    addresses = AnonymousClients(Limits())
    found = [addresses.find((host, 1)) for host in hosts]
    assert {each.caller.name for each in found} == {name}
    assert len({id(each) for each in found}) == 1


def test_clients_without_an_address_are_one_caller() -> None:
    assert AnonymousClients(Limits()).find(None).caller.name == "address:"
