# SPDX-License-Identifier: Apache-2.0
"""Background jobs submitted while Triton is killed repeatedly, and their final states."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from benchmarks.triton_restarts.clients import NO_RESPONSE

# A job takes a second and two start every second, so some run at each kill.
_BODY = {"ms": 1000}
_PAUSE_S = 0.5
_TIMEOUT = aiohttp.ClientTimeout(total=60)
ENDED = ("completed", "failed", "cancelled")


@dataclass(slots=True)
class Jobs:
    """Paths of the accepted jobs (202), rejections by their code, and final states."""

    accepted: list[str] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    num_run_again: int = 0

    async def submit(self, session: aiohttp.ClientSession) -> None:
        """Submit one job after another until cancelled."""
        while True:
            headers = {"Prefer": "respond-async"}
            try:
                async with session.post("/pause-stream", json=_BODY, headers=headers, timeout=_TIMEOUT) as response:
                    if response.status == 202:
                        self.accepted.append(response.headers["location"])
                    else:
                        self.rejected[(await response.json(content_type=None))["code"]] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                self.rejected[f"{NO_RESPONSE}: {type(error).__name__}"] += 1
            await asyncio.sleep(_PAUSE_S)

    async def wait_for_all(self, session: aiohttp.ClientSession) -> None:
        """Wait for each job, and count its final status."""
        for path in self.accepted:
            while True:
                async with session.get(path, timeout=_TIMEOUT) as response:
                    job = await response.json()
                if job["status"] in ENDED:
                    break
                await asyncio.sleep(_PAUSE_S)
            self.ended[job["status"]] += 1
            self.num_run_again += job["runs"] > 1

    @property
    def are_all_done(self) -> bool:
        has_lost_request = any(code.startswith(NO_RESPONSE) for code in self.rejected)
        return self.ended["completed"] == len(self.accepted) and not has_lost_request

    def summary(self) -> str:
        ended = ", ".join(f"{count} {status}" for status, count in self.ended.items())
        rejected = ", ".join(f"{count} x {code}" for code, count in self.rejected.items()) or "none"
        return (
            f"{len(self.accepted)} background jobs of a second each: {ended}; "
            f"{self.num_run_again} ran more than once; rejected: {rejected}."
        )
