# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.hostile`: measure the cost of each attack. README.md explains the columns."""

import contextlib
import http.client
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import RESULTS
from benchmarks.common import machine
from benchmarks.common.measurement_lock import measurement
from benchmarks.hostile import attacked_frontend, held_connections, request_bodies
from benchmarks.hostile.attacked_frontend import Frontend

app = typer.Typer(add_completion=False)

# Time for the server to settle before and after each attack.
SETTLE_S = 0.3


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one attack: growth of memory, longest block of the event loop, longest wait of the probe."""

    name: str
    sent_mb: float
    outcome: str
    grown_mb: float
    blocked_s: float
    waited_s: float

    @property
    def row(self) -> str:
        return (
            f"| {self.name} | {self.sent_mb:.1f} | {self.outcome} | {self.grown_mb:.0f} | {self.blocked_s * 1000:.0f} "
            f"| {self.waited_s * 1000:.0f} |"
        )


class Meter:
    """Measures attacks on one frontend, one after another."""

    def __init__(self, frontend: Frontend, probe: subprocess.Popen[str]) -> None:
        self._frontend, self._probe = frontend, probe
        self._before_mb = 0.0

    def begin(self) -> None:
        time.sleep(SETTLE_S)
        self._frontend.longest_block_s()
        attacked_frontend.longest_wait_s(self._probe)
        self._before_mb = self._frontend.rss_mb
        self._frontend.forget_peak()

    def end(self, name: str, sent: float, outcome: str) -> Cost:
        time.sleep(SETTLE_S)
        blocked_s, waited_s = self._frontend.longest_block_s(), attacked_frontend.longest_wait_s(self._probe)
        return Cost(name, sent / 1e6, outcome, self._frontend.peak_mb - self._before_mb, blocked_s, waited_s)


def _send(frontend: Frontend, body: request_bodies.Body) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", frontend.port, timeout=60)
    try:
        connection.request("POST", body.path, body.data, {"Content-Type": body.media_type})
        response = connection.getresponse()
        response.read()
        return str(response.status)
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()


def _of_bodies(meter: Meter, frontend: Frontend, only: str) -> list[Cost]:
    costs = []
    for body in request_bodies.every():
        if only in body.name:
            meter.begin()
            outcome = _send(frontend, body)
            costs.append(meter.end(body.name, len(body.data), outcome))
            sys.stdout.write(costs[-1].row + "\n")
            sys.stdout.flush()
    return costs


def _of_connections(meter: Meter, frontend: Frontend, only: str) -> list[Cost]:
    costs = []
    for attack in held_connections.every():
        if only in attack.name:
            meter.begin()
            held = attack.run(frontend)
            costs.append(
                meter.end(attack.name, attack.sent_mb * attack.num_connections * 1e6, f"{len(held)} connections")
            )
            for each in held:
                with contextlib.suppress(OSError):
                    each.close()
            sys.stdout.write(costs[-1].row + "\n")
            sys.stdout.flush()
    return costs


@app.command()
def hostile(
    only: Annotated[str, typer.Option(help="Run only attacks with this text in their name.")] = "",
    write: Annotated[bool, typer.Option(help="Write the page into benchmarks/results.")] = False,
) -> None:
    """Attack a frontend and print the cost of each attack."""
    with attacked_frontend.running() as frontend, attacked_frontend.probing(frontend) as probe:
        meter = Meter(frontend, probe)
        _send(frontend, request_bodies.every()[0])  # so that the server has its buffers
        found = _of_bodies(meter, frontend, only) + _of_connections(meter, frontend, only)
    if write:
        _page_path().write_text(_page(found))


def _page_path() -> Path:
    return RESULTS / f"hostile-{machine.cpu_slug()}.md"


def _page(costs: list[Cost]) -> str:
    return "\n".join(
        [
            "# One hostile client",
            "",
            f"`python -m benchmarks.hostile --write`, {machine.cpu_name()}, {os.cpu_count()} cores, load average "
            f"{os.getloadavg()[0]:.0f}, commit {machine.commit()}. [How to read this table](../hostile/README.md).",
            "",
            "| attack | sent, MB | outcome | memory, MB | event loop blocked, ms | `/health/live`, ms |",
            "| --- | --- | --- | --- | --- | --- |",
            *(each.row for each in costs),
            "",
        ]
    )


if __name__ == "__main__":
    with measurement():
        app()
