# SPDX-License-Identifier: Apache-2.0
"""Runs the parts of CI and prints a table of them: `.ci/run`, or `.ci/run lint test` for some.

Parts of one stage run at the same time: each mostly waits, or uses one core. A failed part does not stop the others. A
part also fails if it takes too long, if a process of it still runs after it, or if a test is skipped that could have
run.
"""

import asyncio
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
ALL_MINUTES = 85.0  # of all parts together; the last ones fail if no time is left
ENDING_S = 20.0  # a part's processes may end this much later than the part
KILLED_S = 10.0  # and this much later than SIGKILL
# Files are compiled when they are imported, since compiling all takes a third of an installation. pip takes the value
# for that of `compile`.
PIP = {"PIP_NO_COMPILE": "no"}


@dataclass(frozen=True)
class Part:
    name: str
    command: str
    limit_minutes: float
    runs_tests: bool = True  # with pytest, which counts them
    arguments: str = ""  # of pytest
    is_optional: bool = False  # left out on a slow machine, if the time left is less than its limit

    @property
    def mark(self) -> str:
        """In the environment of all processes of the part in this run."""
        return f"CI_PART={os.getpid()}-{self.name}"


FEW_INPUTS = "FUZZ_BODIES=12000 FUZZ_CONNECTIONS=3000 FUZZ_PICTURES=12000 FUZZ_V2=6000 FUZZ_EXAMPLES=15"
# What depends most on the Python below it. `make test` runs everything on the oldest one, 3.11.
OF_EVERY_PYTHON = "tests/app tests/core tests/serving tests/triton"
OF_NEWEST_PYTHON = f"{OF_EVERY_PYTHON} tests/admission tests/endpoints tests/jobs tests/middleware"
STAGES = (
    (Part("packages", ".ci/packages", 8, runs_tests=False),),
    (Part("setup", "scripts/setup embedded,dev,cluster", 15, runs_tests=False),),
    (Part("lint", "make lint", 10, runs_tests=False), Part("test", "make test", 30)),
    (Part("browser", "make test-browser", 12),),
    (
        Part("python3.12", "make test-pythons PYTHONS=3.12", 15, arguments=OF_EVERY_PYTHON),
        Part("python3.13", "make test-pythons PYTHONS=3.13", 15, arguments=OF_EVERY_PYTHON),
        Part("python3.14", "make test-pythons PYTHONS=3.14", 15, arguments=OF_NEWEST_PYTHON),
    ),
    (Part("slow", "make test-slow", 25),),
    (Part("image", "make test-image", 20), Part("linux", "make test-linux", 20)),
    (Part("cluster", "make test-cluster", 20), Part("fuzz", f"make fuzz {FEW_INPUTS}", 15, is_optional=True)),
    (Part("full-size", "make test-full-size", 12, is_optional=True),),
)


@dataclass
class Outcome:
    name: str
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    minutes: float = 0


def processes_of(part: Part, session: int) -> dict[int, str]:
    """The command lines of a part's processes by their id: those with its mark, and those of its session.

    Some programs write their title over their environment, others start a session of their own.
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_marked = part.mark.encode() in (folder / "environ").read_bytes().split(b"\0")
            of_session = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[3])
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it has ended, or belongs to another user
            continue
        if command and (is_marked or of_session == session):
            found[int(folder.name)] = command
    return found


async def kill_processes_of(part: Part, session: int) -> None:
    deadline = time.monotonic() + KILLED_S  # a process that waits for a device does not end
    while (found := processes_of(part, session)) and time.monotonic() < deadline:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await asyncio.sleep(0.1)


async def wait_for_processes_of(part: Part, session: int) -> list[str]:
    """Wait until all processes of a part have ended; the command lines of those that have not."""
    deadline = time.monotonic() + ENDING_S
    # Nothing in this process learns of their end.
    while (found := processes_of(part, session)) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    return list(found.values())


def count_tests(outcome: Outcome, junit: Path) -> None:
    """Add the tests of pytest's report. Raises `ElementTree.ParseError` if pytest was killed while it wrote it."""
    for case in ElementTree.parse(junit).iter("testcase"):  # noqa: S314 - pytest wrote it
        name = "::".join(filter(None, (case.get("classname"), case.get("name"))))
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed.append(name)
        elif skip is not None:
            outcome.skipped.append(f"{name}: {skip.get('message')}")
        else:
            outcome.passed += 1


async def run(part: Part, folder: Path, limit_minutes: float, output: IO[bytes] | None = None) -> Outcome:
    """Run a part until it ends. Its output goes to a file, or to that of this process."""
    junit = folder / f"{part.name}.xml"
    command = shlex.split(part.command)
    if part.runs_tests:
        options = f"--no-avoidable-skips --durations=10 --junitxml={shlex.quote(str(junit))}"
        command.append(f"ARGS={options} {part.arguments}".rstrip())
    started = time.monotonic()
    name, _, mark = part.mark.partition("=")
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**os.environ, **PIP, name: mark},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    problems = []
    try:
        async with asyncio.timeout(limit_minutes * 60):
            if await process.wait():
                problems.append(f"exit status {process.returncode}")
        problems += [f"still running: {each[:200]}" for each in await wait_for_processes_of(part, process.pid)]
    except TimeoutError:
        problems.append(f"takes longer than {limit_minutes:.1f} minutes")
        os.killpg(process.pid, signal.SIGINT)  # pytest then writes the results that it has
        await wait_for_processes_of(part, process.pid)
    finally:
        await kill_processes_of(part, process.pid)
        await process.wait()
    return outcome_of(part, junit, problems, minutes=(time.monotonic() - started) / 60)


def outcome_of(part: Part, junit: Path, problems: list[str], *, minutes: float) -> Outcome:
    outcome = Outcome(part.name, minutes=minutes)
    if part.runs_tests:
        try:
            count_tests(outcome, junit)
        except (FileNotFoundError, ElementTree.ParseError):
            problems.append("no results of pytest")
    else:
        outcome.passed = int(not problems)
    if outcome.failed:  # failed tests are the reason for the exit status
        problems = [each for each in problems if not each.startswith("exit status")]
    outcome.failed += [f"{part.name}: {each}" for each in problems]
    return outcome


async def run_stage(stage: Sequence[Part], folder: Path, minutes_left: float, outcomes: dict[str, Outcome]) -> None:
    """Run parts at the same time. The output of one of several is printed when it has ended."""

    async def run_one(part: Part, output: IO[bytes] | None = None) -> None:
        started = time.monotonic()
        outcomes[part.name] = interrupted = Outcome(part.name, failed=[f"{part.name}: was interrupted"])
        try:
            outcomes[part.name] = await run(part, folder, min(part.limit_minutes, minutes_left), output)
        finally:
            interrupted.minutes = (time.monotonic() - started) / 60

    async def run_one_of_several(part: Part) -> None:
        file = folder / f"{part.name}.log"
        try:
            with file.open("wb") as output:
                await run_one(part, output)
        finally:
            print(f"\n=== {part.name} ===\n{file.read_text(errors='replace')}", flush=True)

    print("\n" + "\n".join(f"=== {part.name}: {part.command} ===" for part in stage), flush=True)
    if len(stage) == 1:
        await run_one(stage[0])
        return
    async with asyncio.TaskGroup() as group:
        for part in stage:
            group.create_task(run_one_of_several(part))


def table(outcomes: Collection[Outcome], minutes: float) -> str:
    total = Outcome("total", minutes=minutes)
    for each in outcomes:
        total.passed += each.passed
        total.failed += each.failed
        total.skipped += each.skipped
    lines = [f"{'part':<14}{'passed':>9}{'failed':>9}{'skipped':>9}{'minutes':>9}"]
    lines += [
        f"{each.name:<14}{each.passed:>9}{len(each.failed):>9}{len(each.skipped):>9}{each.minutes:>9.1f}"
        for each in (*outcomes, total)
    ]
    for title, names in (("Skipped:", total.skipped), ("Failed:", total.failed)):
        lines += ["", title, *(f"  {name}" for name in names)] if names else []
    lines += ["", f"{total.passed} passed, {len(total.failed)} failed, {len(total.skipped)} skipped"]
    return "\n".join(lines)


async def run_stages(names: Collection[str], outcomes: dict[str, Outcome]) -> None:
    """Run the parts with these names, or all. Adds their outcomes by name, also if it is interrupted."""
    deadline = time.monotonic() + ALL_MINUTES * 60
    with tempfile.TemporaryDirectory() as folder:
        for stage in STAGES:
            minutes_left = max(0.0, (deadline - time.monotonic()) / 60)
            wanted = [part for part in stage if not names or part.name in names]
            late = [part for part in wanted if part.is_optional and minutes_left < part.limit_minutes]
            for part in late:
                outcomes[part.name] = Outcome(part.name, skipped=[f"{part.name}: left out, since time is short"])
            if wanted := [part for part in wanted if part not in late]:
                await run_stage(wanted, Path(folder), minutes_left, outcomes)


def interrupt_once(*_: object) -> None:
    """Like Ctrl-C, SIGTERM kills the processes of the parts that run. `timeout` and make send it twice, and the second
    one must not end that.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)


def main(names: list[str]) -> int:
    known = [part.name for stage in STAGES for part in stage]
    if unknown := set(names) - set(known):
        sys.exit(f"No part is named {', '.join(unknown)}. The parts are {', '.join(known)}.")
    # In a shell's background, Ctrl-C would be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, interrupt_once)
    outcomes: dict[str, Outcome] = {}
    started = time.monotonic()
    try:
        asyncio.run(run_stages(names, outcomes))
    except KeyboardInterrupt:
        return 130
    finally:
        print(f"\n{table(outcomes.values(), minutes=(time.monotonic() - started) / 60)}", flush=True)
    return int(any(outcome.failed for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
