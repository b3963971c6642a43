# SPDX-License-Identifier: Apache-2.0
"""The page of a server that needs an API key: it asks for one, and stores it until the tab is closed."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from player import Player
from playwright.sync_api import expect

from support.api_keys import DRAWS, WATCHES, block
from support.paths import ROOT
from support.scribble_app import PATH
from support.serving import Server, serving

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]


@pytest.fixture(scope="module")
def locked_server(scribble_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("locked")
    shutil.copy(ROOT / "main.py", folder)
    keys: Path = folder / "keys.toml"
    keys.write_text(block("draws", DRAWS) + block("watches", WATCHES, 'scopes = ["metrics"]'))
    arguments = ("--triton", f"http://{scribble_server.triton_url}", "--api-keys-file", str(keys))
    with serving(*arguments, folder=folder) as server:
        yield server.wait_until_ready()


def test_the_page_asks_for_a_key_and_draws_with_it(visit: Visit, locked_server: Server) -> None:
    player = visit(locked_server, may_complain=True)  # the browser logs each 401
    player.until("#status", "locked")
    expect(player.page.locator("#key")).to_be_focused()
    player.says("#key-error", "needs an API key")

    player.page.keyboard.press("Enter")
    player.says("#key-error", "Enter a key first")
    player.page.fill("#key", DRAWS[:-1])
    player.page.keyboard.press("Enter")
    player.says("#key-error", "This key is not valid")
    assert player.page.get_attribute("#key", "aria-invalid") == "true"
    player.page.fill("#key", WATCHES)
    player.page.keyboard.press("Enter")
    player.says("#key-error", "lacks the scope infer")

    player.page.fill("#key", DRAWS)
    player.page.keyboard.press("Enter")
    player.wait_until_ready()
    expect(player.page.locator("#unlock")).to_be_hidden()
    expect(player.page.locator("#prompt")).to_be_focused()
    player.scribble()
    player.make_it_quick()
    player.finish()
    assert player.requests_to(PATH)[-1].headers["authorization"] == f"Bearer {DRAWS}"

    player.page.reload()
    player.wait_until_ready()
    expect(player.page.locator("#unlock")).to_be_hidden()
    assert player.page.evaluate("[document.cookie, ...Object.values(localStorage)].join().includes('ftk_')") is False


def test_the_page_asks_again_when_its_key_is_revoked(visit: Visit, locked_server: Server) -> None:
    player = visit(locked_server, may_complain=True)
    player.until("#status", "locked")
    player.page.fill("#key", DRAWS)
    player.page.keyboard.press("Enter")
    player.wait_until_ready()
    player.scribble()
    player.page.evaluate("sessionStorage.setItem('fastapi-triton-key', 'ftk_revoked')")
    player.press_draw()
    player.until("#status", "locked")
    player.says("#key-error", "This key is not valid")


def test_without_api_keys_the_page_sends_no_key(visit: Visit) -> None:
    player = visit().wait_until_ready()
    expect(player.page.locator("#unlock")).to_be_hidden()
    assert all("authorization" not in request.headers for request in player.requests)
