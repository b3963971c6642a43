# SPDX-License-Identifier: Apache-2.0
"""Background jobs submitted while Triton is killed repeatedly, and their final states."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from benchmarks.triton_restarts.callers import NO_ANSWER

# A job takes a second, and a new one comes twice as often: at every kill some run.
_BODY = {"ms": 1000}
_PAUSE_S = 0.5
_TIMEOUT = aiohttp.ClientTimeout(total=60)
ENDED = ("completed", "failed", "cancelled")


@dataclass(slots=True)
class Jobs:
    """Those that were accepted (202), by their paths; refusals by their code."""

    accepted: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    num_run_again: int = 0

    async def submit(self, session: aiohttp.ClientSession) -> None:
        """One after another, for ever."""
        while True:
            headers = {"Prefer": "respond-async"}
            try:
                async with session.post("/pause-stream", json=_BODY, headers=headers, timeout=_TIMEOUT) as answer:
                    if answer.status == 202:
                        self.accepted.append(answer.headers["location"])
                    else:
                        self.refused[(await answer.json(content_type=None))["code"]] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                self.refused[f"{NO_ANSWER}: {type(error).__name__}"] += 1
            await asyncio.sleep(_PAUSE_S)

    async def see_them_end(self, session: aiohttp.ClientSession) -> None:
        """Wait for each of them, and count how it ended."""
        for path in self.accepted:
            while True:
                async with session.get(path, timeout=_TIMEOUT) as answer:
                    job = await answer.json()
                if job["status"] in ENDED:
                    break
                await asyncio.sleep(_PAUSE_S)
            self.ended[job["status"]] += 1
            self.num_run_again += job["runs"] > 1

    @property
    def are_all_done(self) -> bool:
        is_unanswered = any(code.startswith(NO_ANSWER) for code in self.refused)
        return self.ended["completed"] == len(self.accepted) and not is_unanswered

    def told(self) -> str:
        ended = ", ".join(f"{count} {status}" for status, count in self.ended.items())
        refused = ", ".join(f"{count} x {code}" for code, count in self.refused.items()) or "none"
        return (
            f"{len(self.accepted)} background jobs of a second each: {ended}; "
            f"{self.num_run_again} ran more than once; refused: {refused}."
        )
