# SPDX-License-Identifier: Apache-2.0
"""Answers the page's requests for pictures as a test says, without the engine."""

import json
import re
from collections.abc import Sequence
from typing import Any

from playwright.sync_api import Page, Route

from support.scribble_app import PATH, base64_picture


def fields_of(route: Route) -> dict[str, str]:
    body = (route.request.post_data_buffer or b"").decode("latin-1")
    return dict(re.findall(r'name="(\w+)"\r\n\r\n(.*?)\r\n', body))


_HOLD = """events => {
  const {fetch} = window;
  window.fetch = (address, options = {}) => {
    if (options.method !== "POST") return fetch(address, options);
    window.fetch = fetch;
    return Promise.resolve(new Response(new ReadableStream({
      start(stream) {
        window.sendMore = more => stream.enqueue(new TextEncoder().encode(more));
        window.sendMore(events);
        options.signal.addEventListener("abort", () => stream.error(options.signal.reason));
      },
    })));
  };
}"""


class ScriptedServer:
    """Answers the page's requests for pictures with these bodies in turn; `sent` has the requests' fields."""

    def __init__(self, page: Page) -> None:
        self.sent: list[dict[str, str]] = []
        self.bodies: list[str] = []
        self.notes: list[str] = []
        page.route(f"**{PATH}", self._answer)

    def _answer(self, route: Route) -> None:
        self.sent.append(fields_of(route))
        done = completed(int(self.sent[-1].get("seed", 7)), self.notes)
        body = self.bodies.pop(0) if self.bodies else done
        route.fulfill(content_type="text/event-stream", body=body)


def event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def preview(step: int) -> str:
    return event("progress", {"step": step, "num_steps": 4, "preview": base64_picture(size=(128, 128))})


def completed(seed: int = 7, notes: Sequence[str] = ()) -> str:
    picture = base64_picture(size=(128, 128))
    return event("completed", {"generated_image": picture, "seed": seed, "info": {"notes": notes}})


def hold(page: Page, events: str) -> None:
    """Answer the next request for a picture with these events, and keep its stream open until the page aborts it."""
    page.evaluate(_HOLD, events)


def send_more(page: Page, events: str) -> None:
    """Send more events on the newest stream that is kept open."""
    page.evaluate("events => window.sendMore(events)", events)
