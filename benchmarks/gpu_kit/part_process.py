# SPDX-License-Identifier: Apache-2.0
"""Runs each part in its own process, so that a crash, a hang or a lack of memory ends only this part.

The processes are forked from one that has imported PyTorch and never uses the GPU. So each part starts in a second,
with a GPU that is free of the memory of the parts before. Imports no torch.
"""

import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Literal

from benchmarks.gpu_kit.part import Part
from benchmarks.gpu_kit.plan import Plan

STOPPED_WITHIN_S = 5.0
Message = tuple[str, Any]  # its kind and its content: a row, a note, or one of LAST
LAST = ("done", "skipped", "failed", "unusable")  # unusable: not by the GPU, because the first process has used it
IMPORT_SECONDS = 30.0  # of PyTorch and diffusers


class PartProcesses:
    """Runs parts, one after another.

    Args:
        ends_at: a time of `time.monotonic()`. No part runs longer.
    """

    def __init__(self, plan: Plan, *, ends_at: float) -> None:
        self._plan = plan
        self._ends_at = ends_at
        self._are_forked = True
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # else `torch.cuda.is_available` uses the GPU
        # Imported once for all processes. The first part waits for it.
        multiprocessing.get_context("forkserver").set_forkserver_preload(["benchmarks.gpu_kit.part_imports"])

    def run(self, part: Part, *, seconds: float) -> Generator[Message]:
        """The messages of a part. The last is `done`, `failed` or `skipped`. Closing the generator ends the process."""
        ends_at = min(time.monotonic() + seconds, self._ends_at)
        if self._are_forked:
            for kind, content in _run("forkserver", part, self._plan, ends_at):
                if kind == "unusable":
                    self._are_forked = False
                else:
                    yield kind, content
        if not self._are_forked:  # new processes import everything again, which takes longer, but always works
            yield from _run("spawn", part, self._plan, min(ends_at + IMPORT_SECONDS, self._ends_at))


def _run(how: Literal["forkserver", "spawn"], part: Part, plan: Plan, ends_at: float) -> Generator[Message]:
    context: Any = multiprocessing.get_context(how)
    seconds = ends_at - time.monotonic()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_in_process, args=(part.module, plan, ends_at, sender), name=part.name)
    try:
        process.start()
    except (EOFError, OSError) as error:  # the process that it is forked from has ended
        receiver.close()
        yield ("unusable", None) if how == "forkserver" else ("failed", f"Its process does not start: {error!r}")
        return
    finally:
        sender.close()
    try:
        while True:
            if not receiver.poll(max(0.0, ends_at - time.monotonic())):
                yield "failed", f"It was stopped after {seconds:.0f} s."
                return
            kind, content = receiver.recv()
            yield kind, content
            if kind in LAST:
                process.join(STOPPED_WITHIN_S)
                return
    except EOFError:
        process.join()
        yield "failed", _how_it_ended(process.exitcode)
    finally:
        _kill(process)
        process.join()


def _how_it_ended(status: int | None) -> str:
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        hint = " The machine may lack memory." if name == "SIGKILL" else ""
        return f"Its process was ended by {name}.{hint}"
    return f"Its process ended with status {status}."


def _run_in_process(module: str, plan: Plan, ends_at: float, sender: Connection) -> None:
    os.setsid()  # with its own processes, it is one group that can be killed
    threading.Thread(target=_end_with_the_command, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        part = importlib.import_module(module)
        bench_module = importlib.import_module("benchmarks.gpu_kit.bench")
        if not bench_module.prepare(plan):
            sender.send(("unusable", None))
            return
        part.measure(
            bench_module.Bench(plan=plan, ends_at=ends_at, send=lambda kind, content: sender.send((kind, content)))
        )
    except BaseException as error:
        sender.send(("failed", f"{type(error).__name__}: {_first_line(str(error))}"))
        raise
    sender.send(("done", None))


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def _end_with_the_command() -> None:
    """If the command is killed, its part must not keep the GPU."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)


def _kill(process: Any) -> None:
    """Kill a part's process and its group. Before `setsid`, it has no group."""
    with suppress(ProcessLookupError, PermissionError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
