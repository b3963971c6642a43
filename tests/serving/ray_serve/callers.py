# SPDX-License-Identifier: Apache-2.0
"""Clients in a closed loop, and the outcome of their requests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2


@dataclass
class Callers:
    """Clients that each send a request after the last response. `failures` are (status, code); 0: no response."""

    url: str
    number: int
    num_succeeded: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    has_ended: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def send_until_end(self) -> None:
        with httpx2.Client(base_url=self.url, timeout=120) as http:
            while not self.has_ended:
                try:
                    response = http.post("/echo", json={"text": "a"})
                    outcome = (
                        response.status_code,
                        "" if response.status_code == 200 else str(response.json().get("code")),
                    )
                except (httpx2.HTTPError, ValueError) as error:
                    outcome = (0, repr(error))
                with self.changed:
                    if outcome[0] == 200:
                        self.num_succeeded += 1
                    else:
                        self.failures.append(outcome)
                    self.changed.notify_all()

    def wait_for_more(self, count: int) -> None:
        """Wait until `count` more requests have succeeded."""
        with self.changed:
            until = self.num_succeeded + count
            assert self.changed.wait_for(lambda: self.num_succeeded >= until, 240), self.failures


@contextmanager
def callers(url: str, number: int) -> Iterator[Callers]:
    made = Callers(url, number)
    threads = [threading.Thread(target=made.send_until_end) for _ in range(number)]
    for each in threads:
        each.start()
    try:
        yield made
    finally:
        made.has_ended = True
        for each in threads:
            each.join(130)
