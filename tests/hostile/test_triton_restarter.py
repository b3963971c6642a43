# SPDX-License-Identifier: Apache-2.0
"""The embedded Triton's restarter, with scripts that act as Triton: it survives a killed guard, a full disk or a Triton
that does not start, and leaves no process behind."""

import asyncio
import errno
import logging
import os
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest
from typer.testing import CliRunner

from fastapi_triton.cli.main import app
from fastapi_triton.core import background
from fastapi_triton.core.background import BackgroundTask, running_tasks
from fastapi_triton.embedded import processes, triton_process
from fastapi_triton.embedded.installation import Installation
from fastapi_triton.embedded.triton_log import TritonLog
from fastapi_triton.embedded.triton_process import EmbeddedTriton
from support.serving import Server, free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


class Played:
    """An `EmbeddedTriton` whose `tritonserver` is a script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "tritonserver"
        backends = folder / "backends"
        (backends / "python").mkdir(parents=True)
        (folder / "models").mkdir()
        stub = folder / "triton_python_backend_stub"
        stub.touch()
        installation = Installation(self.script, backends, stub, folder)
        self.triton = EmbeddedTriton(folder / "models", installation=installation, libpython=folder / "libpython.so")

    def plays(self, text: str) -> None:
        self.script.write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}")
        self.script.chmod(0o755)

    def processes(self) -> list[psutil.Process]:
        """All its processes, with the guard."""
        found = []
        for each in psutil.process_iter():
            try:
                folder = each.environ().get(processes.MARK, "")
            except psutil.Error:
                continue
            if folder.startswith(str(self.folder)):
                found.append(each)
        return found

    def guard(self) -> psutil.Process:
        (found,) = (each for each in self.processes() if "guard.py" in " ".join(each.cmdline()))
        return found


# Serves, with a child that holds the log's pipe and survives the server, as a stub process does.
SERVES = """
    import subprocess, sys
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=%r)
    print('I1122 10:42:33.123456 1 http_server.cc:1] "Started HTTPService at 127.0.0.1:1"', flush=True)
    sys.stdin.close()
    import time; time.sleep(1000)
"""
REFUSES = """
    import sys
    print(f"{sys.argv[0]}: unrecognized option '--no-such-option=1'")
    print("Usage: tritonserver [options]")
    for _ in range(400):
        print("  --help")
    sys.exit(1)
"""


@pytest.fixture
def environment() -> Iterator[None]:
    """Restores the variables, log handlers and signal handlers that the command changes."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with mock.patch.dict(os.environ), mock.patch.object(logging.root, "handlers", list(logging.root.handlers)):
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.setattr(background, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    played = Played(tmp_path)
    yield played
    remaining = played.processes()
    for each in remaining:
        each.kill()
    assert not remaining, "a test left processes behind"


def logged(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in each.getMessage() for each in caplog.records)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # there is no event for it
        await asyncio.sleep(0.01)


async def until_logged(caplog: pytest.LogCaptureFixture, text: str, *, times: int = 1) -> None:
    await until(lambda: logged(caplog, text) >= times)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def restarter() -> BackgroundTask:
    (found,) = (each for each in running_tasks() if each.name == "embedded Triton")
    return found


@pytest.mark.parametrize("has_own_session", [False, True])
async def test_killed_guard_leaves_nothing_and_triton_starts_again(
    played: Played, caplog: pytest.LogCaptureFixture, has_own_session: bool
) -> None:
    caplog.set_level(logging.INFO)
    played.plays(SERVES % has_own_session)
    async with played.triton:
        await until_logged(caplog, "Started HTTPService")
        before = await asyncio.to_thread(played.processes)
        assert len(before) == 3
        played.guard().kill()
        await until_logged(caplog, "Started HTTPService", times=2)
        assert not any(is_alive(each) for each in before)
        assert logged(caplog, "guard was killed") == 1
        assert len(list(played.folder.glob("fastapi-triton-*"))) == 1  # the work folder of the killed guard is gone


async def test_daemon_of_a_dead_server_does_not_delay_the_restart(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    played.plays(SERVES % True)
    async with played.triton:
        await until_logged(caplog, "Started HTTPService")
        (server,) = (each for each in played.processes() if str(played.script) in each.cmdline()[1:2])
        server.kill()
        await until_logged(caplog, "Started HTTPService", times=2)
        assert logged(caplog, "Triton ended (killed)") == 1


async def test_restarter_waits_until_there_is_space_for_the_work_folder(
    played: Played, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    played.plays(SERVES % False)
    has_space = True
    make = tempfile.mkdtemp

    def mkdtemp(**options: Any) -> str:
        if not has_space:
            raise OSError(errno.ENOSPC, "No space left on device")
        return make(**options)

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    async with played.triton:
        await until_logged(caplog, "Started HTTPService")
        has_space = False
        played.guard().kill()
        await until_logged(caplog, "No space left on device")
        task = restarter()
        await until(lambda: task.num_failures >= 5)
        assert task.is_failing
        has_space = True
        await until_logged(caplog, "Started HTTPService", times=2)
        assert not task.is_failing


async def test_restarter_gives_up_on_a_triton_that_never_starts_and_names_the_option(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    played.plays(REFUSES)
    async with played.triton as triton:
        reason = await triton.given_up()
    assert reason == "Triton ended (exit status 1): tritonserver: unrecognized option '--no-such-option=1'"
    assert logged(caplog, "--help") == 0  # the 400 lines of usage are not logged
    assert logged(caplog, "embedded Triton failed") == 1  # once, after all attempts


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("workers", [1, 2])
def test_serve_exits_with_the_reason_if_triton_never_starts(
    played: Played, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: int
) -> None:
    played.plays(REFUSES)
    monkeypatch.setattr(EmbeddedTriton, "prepare", lambda *_, **__: played.triton)
    monkeypatch.chdir(tmp_path)
    options = ["--models", str(played.folder / "models"), "--port", str(free_port()), "--workers", str(workers)]
    done = CliRunner().invoke(app, ["serve", "--embedded", *options])
    assert done.exit_code == 2
    assert done.output.splitlines()[-1] == (
        "The embedded Triton does not start: "
        "Triton ended (exit status 1): tritonserver: unrecognized option '--no-such-option=1'"
    )


async def test_restarter_never_gives_up_on_a_triton_that_served_once(
    played: Played, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    played.plays(SERVES % False)
    async with played.triton as triton:
        giving_up = asyncio.create_task(triton.given_up())
        await until_logged(caplog, "Started HTTPService")
        played.plays(REFUSES)
        played.guard().kill()
        task = restarter()
        await until(lambda: task.num_failures >= 2 * triton_process.MAX_FAILED_STARTS)
        assert not giving_up.done()
        giving_up.cancel()
    assert logged(caplog, "unrecognized option '--no-such-option=1'") <= 1 + task.num_failures


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["/bin/tritonserver: unrecognized option '--x'", "Usage: tritonserver [options]", "  --help"],
         "tritonserver: unrecognized option '--x'"),
        (["Usage: tritonserver [options]", "  --help", 'Bad option: "--http-port".', "Invalid option value. Got abc"],
         "tritonserver: bad option --http-port (Invalid option value. Got abc)"),
        (["| table |", "error: creating server: Internal - failed to stat file /nowhere"],
         "creating server: Internal - failed to stat file /nowhere"),
        (['E1128 10:18:49.273472 29584 a.cc:302] "no memory"', 'I1128 10:18:49.273472 29584 a.cc:302] "bye"'],
         "no memory"),
        (["Segmentation fault"], "Segmentation fault"),
        ([], ""),
    ],
)  # fmt: skip
def test_reason_is_taken_from_the_log_of_a_dead_triton(lines: list[str], reason: str) -> None:
    log = TritonLog(has_gpu=False, on_loaded=str, on_started=lambda: None)
    for line in lines:
        log.take(line)
    assert log.reason == reason


async def test_log_without_line_breaks_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stream = asyncio.StreamReader()
    for _ in range(64):
        stream.feed_data(b"x" * 65_536)
    stream.feed_eof()
    await TritonLog(has_gpu=False, on_loaded=str, on_started=lambda: None).read(stream)
    lengths = [len(each.getMessage()) for each in caplog.records]
    assert max(lengths) <= 3 * 65_536
    assert sum(lengths) == 64 * 65_536


@pytest.mark.slow
def test_real_triton_is_restarted_after_its_guard_was_killed(echo_servers: Callable[..., Server]) -> None:
    server = echo_servers().wait_until_ready()
    before = [each for each in server.below() if each.pid != server.process.pid]
    (guard,) = (each for each in before if "guard.py" in " ".join(each.cmdline()))
    guard.kill()
    server.wait_for("ready again")
    assert server.post("/echo", json={"text": "hi"}).json() == {"text": "hi"}
    assert not any(is_alive(each) for each in before)
