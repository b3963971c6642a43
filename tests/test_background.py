# SPDX-License-Identifier: Apache-2.0
"""What goes on beside requests ends with what it goes on beside, and does not fail unheard."""

import asyncio
import logging

import pytest

from fastapi_triton.background import going_on


async def test_it_ends_with_what_it_goes_on_beside() -> None:
    is_running, has_ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        is_running.set()
        try:
            await asyncio.Future()
        finally:
            has_ended.set()

    async with going_on(work(), name="work", trouble="it is over"):
        await is_running.wait()
        assert not has_ended.is_set()
    assert has_ended.is_set()


async def test_its_failure_is_in_the_log_at_once_and_hurts_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ValueError("why")

    async with going_on(work(), name="work", trouble="it is over"):
        while not caplog.records:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.CRITICAL, "it is over")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "why"
