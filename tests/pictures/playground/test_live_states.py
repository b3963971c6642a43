# SPDX-License-Identifier: Apache-2.0
"""The states of live mode: what follows from changes, the pen, pauses, Stop, and a busy or slow server."""

from collections.abc import Callable

import pytest
from live_machine import after, step
from playwright.sync_api import Page

pytestmark = pytest.mark.integration


def test_a_change_supersedes_a_draft_only_when_its_request_has_ended(machine: Callable[[], Page]) -> None:
    page = machine()
    assert step(page, "live.changed()") == []  # off
    assert step(page, "live.turnOn(); live.changed(); live.changed()") == ["drafting"]
    assert step(page, "live.changed(); live.changed()") == ["abort"]
    assert step(page, "end({isCompleted: false})") == ["end", "drafting"]
    assert step(page, "hasDrawing = false; live.changed(); end({isCompleted: false})") == ["abort", "end"]
    assert step(page, "hasDrawing = true; live.wake()") == ["drafting"]
    assert step(page, "live.stop(); end({isCompleted: false})") == ["abort", "end"]
    assert after(page, 10_000) == []
    assert page.evaluate("live.state") == "idle"


def test_a_pause_finishes_the_picture_but_not_under_the_pen(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn(); live.changed()")
    assert step(page, "end()") == ["end"]
    assert after(page, 900) == []
    assert after(page, 100) == ["finishing"]
    assert step(page, "live.hold()") == []  # the pen is down: the picture is still that of the drawing
    assert step(page, "live.changed()") == ["abort"]
    assert step(page, "end({isCompleted: false}); live.hold()") == ["end", "drafting"]
    assert step(page, "end()") == ["end"]
    assert after(page, 5000) == []
    assert step(page, "live.release()") == []
    assert after(page, 1000) == ["finishing"]
    assert step(page, "end()") == ["end"]
    assert after(page, 5000) == []


def test_it_rests_while_the_server_is_busy_or_slow(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn(); live.changed()")
    assert step(page, "end({isCompleted: false, retryAfter: 7})") == ["end"]
    assert page.evaluate("[live.state, live.rest.seconds]") == ["resting", 7]
    assert step(page, "live.changed()") == []
    assert after(page, 6900) == []
    assert after(page, 100) == ["drafting"]
    assert step(page, "end()") == ["end"]
    step(page, "live.changed()")
    assert after(page, 2000) == []
    assert step(page, "live.changed()") == []  # a slow draft goes on
    assert step(page, "end()") == ["end"]
    assert page.evaluate("live.rest.reason") == "slow"
    assert after(page, 5000) == ["drafting"]
    assert after(page, 2000) == []
    assert step(page, "end()") == ["end"]
    assert after(page, 10_001) == ["finishing"]  # nothing has changed
    assert step(page, "live.turnOff(); end({isCompleted: false})") == ["abort", "end"]


def test_it_stays_active_between_a_rest_and_the_finish(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn({isWanted: true}); live.changed()")
    after(page, 2000)
    step(page, "end()")
    step(page, "live.addEventListener('change', () => log.push([live.state, live.isActive]))")
    assert after(page, 5001) == [["idle", True], ["finishing", True], "finishing"]


def test_stop_is_not_undone_by_a_refusal_that_arrives_at_the_same_time(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn(); live.changed()")
    assert step(page, "live.stop(); end({isCompleted: false, retryAfter: 7})") == ["abort", "end"]
    assert after(page, 60_000) == []


def test_stop_is_not_undone_by_a_draft_that_is_completed_at_the_same_time(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn(); live.changed()")
    assert step(page, "live.stop(); end()") == ["abort", "end"]
    assert after(page, 60_000) == []


def test_it_turns_itself_off_if_the_first_draft_is_slow_unless_it_is_wanted(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn(); live.changed()")
    assert after(page, 2000) == ["abort", "unfit"]
    assert step(page, "end({isCompleted: false})") == ["end"]
    assert page.evaluate("live.state") == "off"
    step(page, "live.turnOn({isWanted: true}); live.changed()")
    assert after(page, 2000) == []


def test_the_pen_and_changes_put_off_a_finish_that_is_due(machine: Callable[[], Page]) -> None:
    page = machine()
    assert step(page, "live.turnOn(); live.changed()") == ["drafting"]
    assert step(page, "end(); live.hold()") == ["end"]
    step(page, "live.release()")
    assert after(page, 900) == []
    step(page, "live.hold()")
    assert after(page, 5000) == []
    assert step(page, "live.changed()") == ["drafting"]  # the pen is up
    assert step(page, "end()") == ["end"]
    assert after(page, 900) == []
    assert step(page, "live.changed()") == ["drafting"]
    assert after(page, 1500) == []
    assert step(page, "end()") == ["end"]
    assert after(page, 999) == []  # to look at the draft, however long it took
    assert after(page, 1) == ["finishing"]
    assert after(page, 5000) == []
    assert step(page, "end()") == ["end"]
    assert page.evaluate("live.state") == "idle"  # a finished picture may take long


def test_stop_leaves_nothing_to_draw(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn(); live.changed()")
    assert step(page, "live.changed(); live.stop(); end({isCompleted: false})") == ["abort", "end"]
    assert after(page, 5000) == []
    assert step(page, "live.changed()") == ["drafting"]
    assert step(page, "end()") == ["end"]
    step(page, "live.stop()")  # before the finish
    assert after(page, 5000) == []
    step(page, "live.hold(); live.release()")
    assert after(page, 5000) == []
    step(page, "live.changed()")
    step(page, "end({isCompleted: false, retryAfter: 60})")
    assert page.evaluate("live.isActive")
    step(page, "live.stop()")
    assert page.evaluate("[live.state, live.rest, live.isActive]") == ["idle", None, False]
    assert step(page, "live.changed()") == ["drafting"]


def test_it_is_active_while_something_will_be_drawn_without_a_change(machine: Callable[[], Page]) -> None:
    page = machine()
    is_active: list[bool] = []

    def then(script: str, *, milliseconds: int = 0) -> None:
        step(page, script)
        after(page, milliseconds)
        is_active.append(page.evaluate("live.isActive"))

    then("live.turnOn({isWanted: true})")
    then("live.changed()")
    then("end()")  # to be finished
    then("", milliseconds=1000)
    then("end()")
    then("live.changed()", milliseconds=2000)
    then("end()")  # a rest, then to be finished
    then("live.changed()")
    then("", milliseconds=5000)
    then("end({isCompleted: false, retryAfter: 7})")
    then("live.turnOff()")
    assert is_active == [False, True, True, True, False, True, True, True, True, True, False]


def test_rests_of_a_slow_server_double_up_to_a_minute_until_a_draft_is_quick(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn({isWanted: true}); live.changed()")
    rests: list[int] = []
    for _ in range(6):
        after(page, 2000)
        assert step(page, "end()") == ["end"]
        rests.append(page.evaluate("live.rest.seconds"))
        step(page, "live.changed()")
        assert after(page, 1000 * rests[-1]) == ["drafting"]
    assert rests == [5, 10, 20, 40, 60, 60]
    step(page, "end()")
    assert page.evaluate("live.state") == "idle"
    step(page, "live.changed()")
    after(page, 2000)
    step(page, "end()")
    assert page.evaluate("live.rest.seconds") == 5


def test_a_rest_is_as_long_as_the_server_says_and_ends_with_a_draft(machine: Callable[[], Page]) -> None:
    page = machine()
    step(page, "live.turnOn({isWanted: true}); live.changed()")
    step(page, "end()")
    step(page, "live.changed()")
    after(page, 2000)  # the server is slow, too
    step(page, "end({isCompleted: false, retryAfter: 7})")
    assert page.evaluate("live.rest") == {"reason": "busy", "seconds": 7}
    step(page, "live.hold(); live.release()")  # nothing changed
    assert after(page, 7000) == ["drafting"]
    step(page, "live.turnOff(); end({isCompleted: false, retryAfter: 7})")
    assert step(page, "live.turnOn(); live.changed()") == ["drafting"]
    assert after(page, 3000) == []  # it is still wanted
