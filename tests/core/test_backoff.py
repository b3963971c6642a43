# SPDX-License-Identifier: Apache-2.0
"""Pauses between attempts grow, differ between clients, and stop before a request's deadline."""

import time

from fastapi_triton.core.backoff import Backoff, pauses
from fastapi_triton.core.context import current_deadline


def test_pauses_double_up_to_the_limit_and_start_again_after_a_reset() -> None:
    backoff = Backoff(1.0, 8.0)
    for longest in (1, 2, 4, 8, 8, 8):
        assert longest / 2 <= backoff.next_s() <= longest
    backoff.reset()
    assert backoff.next_s() <= 1


def test_no_pause_is_longer_than_the_limit() -> None:
    assert Backoff(10.0, 1.0).next_s() <= 1


def test_pauses_of_clients_differ() -> None:
    assert len({Backoff(1.0).next_s() for _ in range(100)}) > 50


def test_the_first_attempt_has_no_pause_and_the_number_of_attempts_is_limited() -> None:
    first, *others = pauses(Backoff(1.0), max_attempts=4)
    assert first == 0
    assert len(others) == 3
    assert all(others)


def test_there_is_no_attempt_after_the_deadline() -> None:
    token = current_deadline.set(time.monotonic() + 3600)
    try:
        assert len(list(pauses(Backoff(1.0, 1.0), max_attempts=9))) == 9
        assert list(pauses(Backoff(8000.0), max_attempts=9)) == [0.0]
    finally:
        current_deadline.reset(token)
