# SPDX-License-Identifier: Apache-2.0
"""A real Chromium on the page, which a real embedded Triton serves."""

from collections.abc import Callable, Iterator

import pytest
from live_machine import MACHINE
from player import Player
from playwright.sync_api import Browser, Page

from support.chromium import chromium as chromium
from support.serving import Server


@pytest.fixture
def visit(chromium: Browser, scribble_server: Server) -> Iterator[Callable[..., Player]]:
    """Opens the page as a new visitor. Messages on the browser's console fail the test."""
    players: list[Player] = []

    def open_page(
        server: Server = scribble_server, *, may_complain: bool = False, is_live: bool = False, **context: object
    ) -> Player:
        within = chromium.new_context(**context)  # type: ignore[arg-type]
        if not is_live:
            within.add_init_script("localStorage.live ??= 'off'")
        player = Player(within, server.url, may_complain=may_complain)
        players.append(player)
        return player

    yield open_page
    for player in players:
        player.leave()


@pytest.fixture
def machine(visit: Callable[..., Player]) -> Callable[[], Page]:
    """A page with `window.live`, whose time stands still."""

    def start() -> Page:
        page = visit().page
        page.clock.install(time=0)
        page.clock.pause_at(1000)
        page.evaluate(MACHINE)
        return page

    return start
