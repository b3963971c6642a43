# SPDX-License-Identifier: Apache-2.0
"""What the page says: notes of the engine, refusals in plain words, and times that count down."""

import json
from collections.abc import Callable

import pytest
from player import Player
from playwright.sync_api import Route, expect
from scripted_server import ScriptedServer, event

from support.scribble_app import PATH

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]

IN_WORDS = """async ([code, detail]) => {
  const {inWords} = await import(document.querySelector("link[href$='/refusals.js']").href);
  return inWords({code, detail}, {guidance_scale: "Guidance"});
}"""


def test_refusals_are_in_plain_words(visit: Visit) -> None:
    page = visit().page

    def in_words(code: str, detail: str) -> str:
        return str(page.evaluate(IN_WORDS, [code, detail]))

    whole = in_words("wrong_type", '`seed` is "seven"; it must be a whole number.')
    assert whole == "Write a whole number, such as 7. “seven” is not one."
    low = in_words("out_of_range", '`seed` is "-5"; it must be at least -1.')
    assert low == "-5 is too low. The lowest is -1."
    between = in_words("out_of_range", "`num_inference_steps` is 999; it must be from 1 to 50.")
    assert between == "999 does not work here. Choose a number from 1 to 50."
    number = in_words("not_finite", '`guidance_scale` is "nan"; it must be a finite number.')
    assert number == "Write a number, such as 2.5. “nan” is not one."
    long = in_words("too_long", "`prompt` has 10,001 characters; it must have at most 10,000.")
    assert long == "This text is too long: 10,001 characters. Shorten it to 10,000."
    assert in_words("overloaded", "The queue is full.") == "The server has too much to do right now."
    unlisted = in_words("of_another_app", "`guidance_scale` and `glow` do not mix.")
    assert unlisted == "“Guidance” and glow do not mix."


def shows(player: Player, selector: str, text: str) -> None:
    """Wait until the element has this text, also for a moment only."""
    script = "([selector, text]) => document.querySelector(selector).textContent.includes(text)"
    player.page.wait_for_function(script, arg=[selector, text], polling="raf")


def test_notes_of_the_engine_are_shown_with_the_names_of_the_page(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    server = ScriptedServer(player.page)
    server.notes = ["`negative_prompt` has no effect without guidance: set `guidance_scale` above 1."]
    player.finish()
    player.says("#notes", "“Negative prompt” has no effect without guidance: set “Guidance” above 1.")
    server.notes = []
    player.finish()
    expect(player.page.locator("#notes")).to_be_empty()


def test_a_busy_server_counts_down_until_a_person_can_draw_again(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    server = ScriptedServer(player.page)
    drawn = player.ink
    server.bodies = [event("error", {"status": 503, "code": "overloaded", "detail": "Full.", "retry_after_s": 2})]
    player.press_draw()
    shows(player, "#result-error", "The server has too much to do right now. Try again in 2 s.")
    draw = player.page.locator("#draw")
    expect(draw).to_have_attribute("aria-disabled", "true")
    player.page.keyboard.press("Control+Enter")
    shows(player, "#result-error", "Try again in 1 s.")
    player.says("#result-error", "You can draw again now.")
    expect(draw).to_have_attribute("aria-disabled", "false")
    assert (len(server.sent), player.ink) == (1, drawn)
    player.finish()


def test_the_estimate_in_the_queue_counts_down(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    queued = {"position": 2, "estimated_wait_s": 1.0, "estimated_total_s": 3.0}
    # A stream that goes on: only a browser's own objects can send part of a body.
    player.page.evaluate(
        """queued => {
          const began = `event: queued\\ndata: ${queued}\\n\\n`;
          const stream = new ReadableStream({start: each => each.enqueue(new TextEncoder().encode(began))});
          window.fetch = async () => new Response(stream, {headers: {"Content-Type": "text/event-stream"}});
        }""",
        json.dumps(queued),
    )
    player.press_draw()
    shows(player, "#caption", "Waiting: number 2 in the queue, about 3 s left")
    shows(player, "#caption", "number 2 in the queue, about 2 s left")


def test_what_a_checkpoint_can_paint_is_said_if_it_says_so(visit: Visit) -> None:
    player = visit()
    about = "This checkpoint paints houses. For anything else, load SDXL."

    def fulfill(route: Route) -> None:
        route.fulfill(json={"ready": True, "description": {"name": "another", "about": about}})

    player.page.route("**/playground/model", fulfill)
    player.page.reload()
    player.wait_until_ready()
    player.says("#about", about)


def test_a_stream_that_breaks_is_not_called_an_outage(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    player.page.route(f"**{PATH}", lambda route: route.fulfill(content_type="text/event-stream", body=""))
    player.press_draw()
    player.says("#result-error", "The connection was lost. Press Draw to try again.")
    player.until("#status", "ready")
    assert player.ink > 0


def test_a_folder_that_is_dropped_is_no_picture(visit: Visit) -> None:
    player = visit()
    player.page.evaluate("""() => {
      Blob.prototype.arrayBuffer = () => Promise.reject(new DOMException("It is a folder.", "NotFoundError"));
      const data = new DataTransfer();
      data.items.add(new File(["?"], "holidays"));
      document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    }""")
    player.says("#scribble-error", "“holidays” is not a picture that this browser can read.")


def test_an_unfinished_number_is_named_and_an_empty_one_is_the_default(visit: Visit) -> None:
    player = visit().wait_until_ready().scribble()
    page, server = player.page, ScriptedServer(player.page)
    number, slider = page.locator("#setting-guidance_scale"), page.get_by_label("Guidance, slider")
    default = slider.input_value()
    player.set("guidance_scale", "9")
    expect(slider).to_have_value("9")
    number.press("Control+a")
    page.keyboard.type("1e")
    player.says("#setting-guidance_scale-error", "Write a number")
    expect(number).to_have_attribute("aria-invalid", "true")
    player.finish()
    player.says("#setting-guidance_scale-error", "Write a number")
    assert "guidance_scale" not in server.sent[0]
    page.keyboard.type("1")
    number.fill("")
    player.says("#setting-guidance_scale-error", "How closely")
    expect(slider).to_have_value(default)
