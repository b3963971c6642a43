# SPDX-License-Identifier: Apache-2.0
"""Runs one command, and ends it and every process that it started when the parent process ends.

It is a separate program (`python guard.py FOLDER SHM_PREFIX GRACE_S COMMAND …`, standard library only), because a
process that is killed with SIGKILL cannot clean up. The guard reads a pipe from the parent. The parent writes nothing
to it, and the kernel closes it when the parent ends.
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
# The parent handles the terminal's Ctrl-C and a supervisor's SIGTERM; it closes the pipe when it has finished.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _die_with_guard() -> None:
    """Runs in the child. Has the kernel kill the command if the guard is killed."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in IGNORED:  # the command would inherit the ignored signals
        signal.signal(number, signal.SIG_DFL)


def _wait(pidfd: int, parent_pipe: int, grace_s: float) -> None:
    """Wait until the command ends. When the parent ends, send the command SIGTERM and wait at most `grace_s` more."""
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
    """Run the command to its end. Returns its exit status; a negative one is the signal that ended it."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the command become our children, so that we can reap them
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_guard,
    )
    pidfd = os.pidfd_open(child.pid)
    _wait(pidfd, sys.stdin.fileno(), grace_s)
    # The command is not reaped yet, so no other process group can have its number.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    status = child.wait()
    _end_children()
    return status


def _end_children() -> None:
    """Kill and reap the command's orphans. A subreaper inherits all of them, even from other sessions."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)  # the number of a child is not reused before it is reaped
            os.waitpid(-1, 0)


def _children() -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may contain any character; the parent's id is the second field after it.
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
