# SPDX-License-Identifier: Apache-2.0
"""Callers in a closed loop, and what each of them was answered."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2


@dataclass
class Callers:
    """Each asks again as soon as it is answered. `failures` are (status, code); 0 is no answer at all."""

    url: str
    number: int
    num_answered: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    is_over: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def ask_for_ever(self) -> None:
        with httpx2.Client(base_url=self.url, timeout=120) as http:
            while not self.is_over:
                try:
                    answer = http.post("/echo", json={"text": "a"})
                    told = (answer.status_code, "" if answer.status_code == 200 else str(answer.json().get("code")))
                except (httpx2.HTTPError, ValueError) as error:
                    told = (0, repr(error))
                with self.changed:
                    if told[0] == 200:
                        self.num_answered += 1
                    else:
                        self.failures.append(told)
                    self.changed.notify_all()

    def wait_for_more(self, count: int) -> None:
        """So many more are answered well from now on."""
        with self.changed:
            until = self.num_answered + count
            assert self.changed.wait_for(lambda: self.num_answered >= until, 240), self.failures


@contextmanager
def callers(url: str, number: int) -> Iterator[Callers]:
    made = Callers(url, number)
    threads = [threading.Thread(target=made.ask_for_ever) for _ in range(number)]
    for each in threads:
        each.start()
    try:
        yield made
    finally:
        made.is_over = True
        for each in threads:
            each.join(130)
