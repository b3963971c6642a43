# SPDX-License-Identifier: Apache-2.0
"""What the page stores: the work of each tab, and the history that all tabs share."""

from collections.abc import Callable

import pytest
from player import Player
from playwright.sync_api import expect
from scripted_server import ScriptedServer

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]

# Whether two pictures are stored. A page that is left at once may not have stored them yet.
STORES_2 = """() => new Promise(resolve => {
  indexedDB.open("playground", 1).onsuccess = ({ target }) => {
    const number = target.result.transaction("pictures").objectStore("pictures").count();
    number.onsuccess = () => resolve(number.result === 2);
  };
})"""
# Adds a record to a table, as the page does.
STORE = """([database, table, record]) => new Promise((resolve, reject) => {
  indexedDB.open(database, 1).onsuccess = ({ target }) => {
    const transaction = target.result.transaction(table, "readwrite");
    transaction.objectStore(table).put(record);
    transaction.oncomplete = resolve;
    transaction.onabort = reject;
  };
})"""
# The database opens when the test says so.
SLOW_STORAGE = """(() => {
  const opening = new Promise(resolve => { window.openStorage = resolve; });
  const open = IDBFactory.prototype.open;
  IDBFactory.prototype.open = function (...values) {
    const request = {};
    opening.then(() => Object.assign(open.apply(this, values), {
      onsuccess: ({ target }) => { request.result = target.result; request.onsuccess(); },
      onupgradeneeded: ({ target }) => { request.result = target.result; request.onupgradeneeded(); },
    }));
    return request;
  };
})();"""
# The page does not hear that it is left, as when the browser crashes.
SUDDEN_END = """for (const target of [window, document]) for (const name of ["pagehide", "visibilitychange"])
  target.addEventListener(name, event => event.stopImmediatePropagation(), true);"""
# An entry as earlier versions of the page stored it: a picture of the scribble, a small id, no seed among the values.
OLD_ENTRY = """async () => {
  const sheet = new OffscreenCanvas(64, 64).getContext("2d");
  sheet.fillStyle = "#fff";
  sheet.fillRect(0, 0, 64, 64);
  sheet.fillStyle = "#000";
  sheet.fillRect(16, 16, 32, 32);
  const file = await sheet.canvas.convertToBlob();
  const values = {num_inference_steps: "3", width: "128", height: "128", seed: undefined};
  const entry = {id: 1, made: 1, prompt: "an old house", values, seed: "5", seconds: 1, picture: file, scribble: file};
  return ["playground", "pictures", entry];
}"""


def settings_of(player: Player) -> dict[str, str]:
    names = ("num_inference_steps", "seed", "negative_prompt", "size")
    return {name: player.page.input_value(f"#setting-{name}") for name in names}


def test_a_reload_keeps_drawing_prompt_and_settings_and_what_can_be_undone(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble(prompt="a cat")
    page = player.page
    page.click("#undo")
    for name, value in {"num_inference_steps": "3", "seed": "7", "negative_prompt": "dogs", "size": "192x128"}.items():
        player.set(name, value)
    drawn, settings = player.ink, settings_of(player)
    player.reload()
    player.wait_until_ready()
    expect(page.locator("#undo")).to_be_enabled()
    assert (player.ink, settings_of(player), page.input_value("#prompt")) == (drawn, settings, "a cat")
    page.click("#redo")
    assert player.ink > drawn
    page.click("#clear")
    page.click("#scribble-error button")  # Undo
    assert player.ink > drawn
    with page.expect_popup() as opening:
        page.click("#docs")
    assert "/docs" in opening.value.url
    opening.value.close()


def test_a_reload_keeps_settings_without_a_drawing_and_a_prompt(visit: Visit) -> None:
    player = visit().wait_until_ready()
    for name, value in {"seed": "7", "negative_prompt": "dogs", "size": "192x128"}.items():
        player.set(name, value)
    settings = settings_of(player)
    for _ in range(2):
        player.reload()
        player.wait_until_ready()
        expect(player.page.locator("#setting-seed")).to_have_value("7")
        assert settings_of(player) == settings


def test_a_reload_keeps_what_was_entered_before_the_storage_was_open(visit: Visit) -> None:
    player = visit()
    player.page.add_init_script(SLOW_STORAGE + SUDDEN_END)
    player.page.reload()
    player.until("#status", "ready")
    player.set("seed", "7")
    player.page.evaluate("openStorage()")
    player.wait_until_ready()
    player.page.reload()
    player.page.evaluate("openStorage()")
    player.wait_until_ready()
    expect(player.page.locator("#setting-seed")).to_have_value("7")


def test_what_is_drawn_and_entered_before_the_storage_is_open_is_added_to_the_stored_work(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble(prompt="a cat")
    page = player.page
    for name, value in {"seed": "7", "num_inference_steps": "3"}.items():
        player.set(name, value)
    drawn = player.ink
    page.add_init_script(SLOW_STORAGE)
    player.reload()
    player.until("#status", "ready")
    ScriptedServer(page)
    player.set("num_inference_steps", "4")
    page.fill("#prompt", "a dog")
    player.stroke(((0.1, 0.9), (0.9, 0.9)))
    page.click("#draw")
    player.until("#frame", "done")
    page.evaluate("dispatchEvent(new Event('pagehide'))")  # whatever was to be stored is stored first
    page.locator("#scribble").scroll_into_view_if_needed()
    box = page.locator("#scribble").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.1 * box["height"], steps=5)
    page.evaluate("openStorage()")
    player.until("main", "restored")
    before = player.ink
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.1 * box["height"], steps=5)
    page.mouse.up()
    assert player.ink > before > drawn
    assert (settings_of(player)["seed"], settings_of(player)["num_inference_steps"]) == ("7", "4")
    assert page.input_value("#prompt") == "a dog"
    for _ in range(2):  # the strokes of before and after
        page.click("#undo")
    assert player.ink == pytest.approx(drawn)


def test_work_that_cannot_be_read_is_not_replaced(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble(prompt="a cat")
    drawn = player.ink
    broken = (
        "if (localStorage.broken) IDBObjectStore.prototype.get = () => { throw new DOMException('no', 'DataError'); }"
    )
    player.page.add_init_script(broken)
    player.page.evaluate("localStorage.broken = 'yes'")
    player.reload()
    player.wait_until_ready()
    assert (player.ink, player.page.input_value("#prompt")) == (0, "")
    player.page.evaluate("localStorage.removeItem('broken')")
    other = player.open_tab().wait_until_ready()
    assert (other.ink, other.page.input_value("#prompt")) == (drawn, "a cat")


def test_a_tab_that_slept_while_another_took_its_work_over_still_has_it(visit: Visit) -> None:
    first = visit().wait_until_ready().scribble(prompt="a cat")
    drawn = first.ink
    first.reload()
    first.wait_until_ready()
    first.page.evaluate("BroadcastChannel.prototype.postMessage = () => {}")  # as a tab that the browser has frozen
    second = first.open_tab().wait_until_ready()
    assert (second.ink, second.page.input_value("#prompt")) == (drawn, "a cat")
    third = first.open_tab().wait_until_ready()
    assert (third.ink, third.page.input_value("#prompt")) == (0, "")  # the second has it
    first.reload()
    first.wait_until_ready()
    assert (first.ink, first.page.input_value("#prompt")) == (drawn, "a cat")


def test_work_from_before_the_server_was_ready_gets_the_default_preset(visit: Visit) -> None:
    player = visit()
    page = player.page
    page.route("**/playground/model", lambda _: None)  # never answered
    page.reload()
    player.until("main", "restored")
    page.fill("#prompt", "a cat")
    page.unroute("**/playground/model")
    player.reload()
    player.wait_until_ready()
    assert (page.input_value("#prompt"), page.input_value("#setting-preset")) == ("a cat", "quality")


def test_earlier_pictures_and_examples_have_a_way_back_to_what_was_there(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble(prompt="a cat")
    page = player.page
    ScriptedServer(page)
    player.finish()
    player.stroke(((0.1, 0.9), (0.9, 0.9)))
    page.fill("#prompt", "my own words")
    player.set("negative_prompt", "dogs")
    drawn = player.ink
    page.click("#history .kept")
    player.says("#restored", "those of the earlier picture")
    page.click("#examples button >> nth=1")
    player.says("#restored", "those of the example")
    assert page.input_value("#prompt") == "an orange fish in the sea"
    of_example = player.ink
    page.click("#restored-undo")
    player.until_redrawn(of_example)
    assert (player.ink, page.input_value("#prompt")) == (drawn, "my own words")
    assert page.input_value("#setting-negative_prompt") == "dogs"


def test_tabs_share_the_history_and_each_has_its_own_drawing(visit: Visit) -> None:
    first = visit().wait_until_ready().scribble(prompt="a cat")
    first.make_it_quick()
    first.finish()
    second = first.open_tab().wait_until_ready()
    expect(second.page.locator("#history .kept")).to_have_count(1)
    assert (second.ink, second.page.input_value("#prompt")) == (0, "")
    second.scribble(prompt="a dog")
    second.make_it_quick()
    second.finish()
    expect(first.page.locator("#history .kept")).to_have_count(2)
    first.finish()
    expect(second.page.locator("#history .kept")).to_have_count(3)
    drawn = first.ink
    first.wait_until_stored()
    first.page.close()  # the tab, or the browser: the next tab goes on
    third = second.open_tab().wait_until_ready()
    expect(third.page.locator("#undo")).to_be_enabled()
    assert (third.ink, third.page.input_value("#prompt")) == (drawn, "a cat")


def test_an_entry_restores_all_of_it_and_removing_can_be_undone(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble(prompt="a cat")
    page = player.page
    player.make_it_quick()
    player.finish()
    drawn, settings = player.ink, settings_of(player)
    player.stroke(((0.1, 0.9), (0.9, 0.9)))
    for name, value in {"num_inference_steps": "3", "seed": "7", "negative_prompt": "dogs"}.items():
        player.set(name, value)
    player.finish("#again")
    fixed = page.input_value("#setting-seed")  # still fixed, to the seed of the new picture
    assert fixed not in ("", "-1", "7")
    assert player.caption.startswith(f"Seed {fixed} ")

    page.click("#history li:last-child .kept")
    expect(page.locator("#prompt")).to_have_value("a cat")
    page.wait_for_function("() => document.getElementById('setting-seed').value === ''")
    assert (player.ink, settings_of(player)) == (drawn, settings)
    page.click("#undo")
    assert player.ink > drawn
    page.click("#history li:first-child .kept")
    expect(page.locator("#setting-seed")).to_have_value(fixed)
    expect(page.locator("#setting-negative_prompt")).to_have_value("dogs")

    kept = page.locator("#history .kept")
    page.focus("#history li:first-child .drop")
    page.keyboard.press("Enter")
    expect(kept).to_have_count(1)
    page.focus("#history-notice button")
    page.keyboard.press("Enter")
    expect(kept).to_have_count(2)
    expect(kept.first).to_be_focused()
    page.click("#forget")
    expect(kept).to_have_count(0)
    expect(page.get_by_role("button", name="Undo").last).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_function(STORES_2)
    page.reload()
    expect(kept).to_have_count(2)


def test_a_history_that_an_earlier_version_stored_still_loads(visit: Visit) -> None:
    player = visit().wait_until_ready()
    player.set("seed", "7")
    player.page.evaluate(STORE, player.page.evaluate_handle(OLD_ENTRY))
    player.page.reload()
    player.wait_until_ready()
    player.page.click("#history .kept")
    expect(player.page.locator("#prompt")).to_have_value("an old house")
    expect(player.page.locator("#undo")).to_be_enabled()
    assert player.ink == pytest.approx(0.25, abs=0.01)
    assert settings_of(player)["num_inference_steps"] == "3"
    assert settings_of(player)["seed"] == ""


LOST_PICTURE = """() => {
  const png = new Blob(["lost"]);
  const action = {kind: "picture", png, width: 100, height: 100};
  const stroke = {kind: "stroke", tool: "brush", points: new Float32Array([0, 0, 20])};
  const drawing = {actions: [action, stroke], undone: []};
  const work = {id: 1, saved: 1, work: {drawing, prompt: "a house", values: {}, liveSeed: "7"}};
  sessionStorage.setItem("fastapi-triton-workspace", "1");
  return ["playground-workspaces", "workspaces", work];
}"""


def test_the_rest_of_a_drawing_survives_if_the_browser_has_lost_a_picture_in_it(visit: Visit) -> None:
    player = visit().wait_until_ready()
    player.page.evaluate(STORE, player.page.evaluate_handle(LOST_PICTURE))
    player.page.reload()
    player.wait_until_ready()
    expect(player.page.locator("#prompt")).to_have_value("a house")
    player.until_redrawn(0)


@pytest.mark.parametrize(
    ("failure", "note"),
    [
        ("IDBFactory.prototype.open = () => { throw new DOMException('no', 'SecurityError'); }", "stores nothing"),
        (
            "IDBObjectStore.prototype.put = () => { throw new DOMException('no', 'QuotaExceededError'); }",
            "storage is full",
        ),
    ],
    ids=["private", "full"],
)
def test_a_browser_that_cannot_store_says_so_and_works(visit: Visit, failure: str, note: str) -> None:
    player = visit()
    player.page.add_init_script(failure)
    player.page.reload()
    player.wait_until_ready().scribble()
    player.says("#storage-note", "cannot store your drawing")
    player.make_it_quick()
    player.finish()
    player.says("#history-note", note)


def test_a_removal_can_still_be_undone_after_another_picture(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble(prompt="a cat")
    page = player.page
    ScriptedServer(page)
    player.finish()
    page.fill("#prompt", "a dog")
    player.finish()
    page.click("#forget")
    page.fill("#prompt", "a fish")
    player.finish()
    player.says("#history-notice", "All pictures were removed.")
    page.click("#history-notice button")
    expect(page.locator("#history-notice")).to_be_empty()
    kept = page.locator("#history .kept")
    for each, name in enumerate(("a fish", "a dog", "a cat")):
        expect(kept.nth(each)).to_have_attribute("title", name)
    expect(kept).to_have_count(3)
