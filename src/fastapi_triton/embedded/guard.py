# SPDX-License-Identifier: Apache-2.0
"""Runs one command, and ends it with every process that it started as soon as the parent process is gone.

A program of its own (`python guard.py FOLDER SHM_PREFIX GRACE_S COMMAND …`), standard library only, because a process
that is killed with SIGKILL cannot clean up: the guard reads a pipe that nobody writes to, and which closes when the
parent is gone.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# The terminal's Ctrl-C and a supervisor's SIGTERM are the parent's to handle; it closes the pipe when it is done.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _die_with_guard() -> None:
    """Runs in the child: should the guard itself be killed, the command goes too."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in IGNORED:  # ignored signals would stay ignored in the command
        signal.signal(number, signal.SIG_DFL)


def _wait(pidfd: int, parent_pipe: int, grace_s: float) -> None:
    """Return when the command has ended, or `grace_s` after it was asked to since the parent went away."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(parent_pipe, select.POLLIN | select.POLLHUP)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == pidfd:
                return
            if os.read(parent_pipe, 4096) == b"":
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                poll.unregister(parent_pipe)
                poll.poll(grace_s * 1000)
                return


def run(command: list[str], grace_s: float) -> int:
    """Run the command to its end. Gives its exit status (negative: the signal that ended it)."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the command leaves behind becomes our child, so that we can reap it
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_guard,
    )
    pidfd = os.pidfd_open(child.pid)
    _wait(pidfd, sys.stdin.fileno(), grace_s)
    # The command is not reaped yet, so its process group's number is still its own.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    status = child.wait()
    _end_children()
    return status


def _end_children() -> None:
    """Kill and reap what the command leaves behind. As a subreaper we inherit even processes with their own session."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)  # a child of ours that is not reaped keeps its number
            os.waitpid(-1, 0)


def _children() -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything; the parent is the second field after it.
            if int(file.read_bytes().rpartition(b")")[2].split()[1]) == os.getpid():
                found.append(int(file.parent.name))
    return found


def remove(folder: Path, shared_memory_prefix: str) -> None:
    """Remove the work folder and the shared memory of a Triton that has ended."""
    shutil.rmtree(folder, ignore_errors=True)
    for region in SHARED_MEMORY.glob(f"{shared_memory_prefix}*"):
        region.unlink(missing_ok=True)


def main() -> int:
    folder, shared_memory_prefix, grace_s, *command = sys.argv[1:]
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    try:
        return abs(run(command, float(grace_s)))
    finally:
        remove(Path(folder), shared_memory_prefix)


if __name__ == "__main__":
    sys.exit(main())
