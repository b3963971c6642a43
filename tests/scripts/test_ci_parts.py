# SPDX-License-Identifier: Apache-2.0
"""CI's parts, with small Makefiles and real pytest sessions, and the plugin that rejects skips."""

import asyncio
import dataclasses
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT

PYTEST = (
    f"PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTHONPATH={shlex.quote(str(ROOT / 'tests'))} {shlex.quote(sys.executable)}"
    " -m pytest -q -c /dev/null -p no:cacheprovider -p support.skips"
)
TESTS = """
import pytest

def test_that_passes(): pass
def test_that_fails(): assert False
@pytest.mark.skip(reason="needs a GPU")
def test_on_a_gpu(): pass
@pytest.mark.skip(reason="nginx is not installed")
def test_behind_nginx(): pass
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`scripts/ci_parts.py`, with the root in an empty folder."""
    spec = importlib.util.spec_from_file_location("ci_parts", ROOT / "scripts" / "ci_parts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ci_parts", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "ENDING_S", 0.0)
    return module


def run(parts: Any, part: Any, folder: Path, limit_minutes: float) -> Any:
    return asyncio.run(parts.run(part, folder, limit_minutes))


@pytest.fixture
def run_pytest(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    def run(text: str, *arguments: str) -> tuple[int, str]:
        (tmp_path / "test_it.py").write_text(text)
        command = ["sh", "-c", f'{PYTEST} "$@"', "sh", *arguments, str(tmp_path / "test_it.py")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def test_failed_part_does_not_stop_the_others_and_the_table_names_its_tests(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "Makefile").write_text(f"lint:\n\t@false\n\ntest:\n\t@{PYTEST} $(ARGS)\n\nempty:\n\t@true\n")
    monkeypatch.setattr(
        parts,
        "STAGES",
        (
            (parts.Part("lint", "make lint", 1, runs_tests=False),),
            (parts.Part("test", "make test", 1), parts.Part("empty", "make empty", 1)),
        ),
    )
    assert parts.main([]) == 1
    printed = capsys.readouterr().out
    rows = re.findall(r"^(lint|test|empty|total) +(\d+) +(\d+) +(\d+) +0\.\d$", printed, flags=re.MULTILINE)
    assert [" ".join(row) for row in rows] == ["lint 0 1 0", "test 1 2 1", "empty 0 1 0", "total 1 4 1"]
    after_table = printed.partition("\nSkipped:\n")[2].splitlines()
    assert after_table == [
        "  test_it::test_on_a_gpu: needs a GPU",
        "",
        "Failed:",
        "  lint: exit status 2",
        "  test_it::test_that_fails",
        "  test_it::test_behind_nginx",
        "  empty: no results of pytest",
        "",
        "1 passed, 4 failed, 1 skipped",
    ]


def test_processes_that_outlive_their_part_are_named_and_killed(parts: Any, tmp_path: Path) -> None:
    marked = f"import os, time; os.setsid(); time.sleep(3600)  # {tmp_path}"
    (tmp_path / "part").write_text(
        f"""#!/bin/sh
        wait_for() {{ until grep -q "$1" /proc/$!/cmdline; do sleep 0.01; done; }}
        {sys.executable} -c "{marked}" & wait_for setsid
        env -i sleep 3601 & wait_for 3601
        """
    )
    (tmp_path / "part").chmod(0o755)
    outcome = run(parts, parts.Part("lint", "./part", 1, runs_tests=False), tmp_path, 1)
    assert outcome.passed == 0
    assert sorted(name.split()[-1] for name in outcome.failed) == sorted(["3601", str(tmp_path)])
    assert all(name.startswith("lint: still running: ") for name in outcome.failed)
    assert not parts.processes_of(parts.Part("lint", "", 1), session=-1)


def test_parts_that_take_too_long_are_killed(
    parts: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = [parts.Part(name, "sleep 3600", 1, runs_tests=False) for name in ("one", "two", "three")]
    endless[0] = dataclasses.replace(endless[0], limit_minutes=0.002)
    monkeypatch.setattr(parts, "STAGES", (endless[:1], endless[1:]))
    monkeypatch.setattr(parts, "ALL_MINUTES", 0.004)
    assert parts.main([]) == 1
    assert re.findall(r"^  (\w+): takes longer than 0\.0 minutes", capsys.readouterr().out, re.MULTILINE) == [
        "one",
        "two",
        "three",
    ]
    assert not any(parts.processes_of(part, session=-1) for part in endless)


def test_parts_of_a_stage_run_at_the_same_time_and_their_output_is_kept_apart(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "part").write_text(
        """#!/bin/sh
        echo "$1 begins"; touch "$1.begun"
        until [ -e "$2.begun" ]; do sleep 0.01; done
        echo "$1 met $2"
        """
    )
    (tmp_path / "part").chmod(0o755)
    stage = [
        parts.Part(name, f"./part {name} {other}", 1, runs_tests=False) for name, other in (("a", "b"), ("b", "a"))
    ]
    monkeypatch.setattr(parts, "STAGES", [stage])
    assert parts.main([]) == 0
    printed = capfd.readouterr().out
    assert "=== a ===\na begins\na met b\n" in printed
    assert "=== b ===\nb begins\nb met a\n" in printed


def test_sigterm_kills_the_parts_that_run_and_the_table_is_printed(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With their processes in other sessions. A shell's background processes ignore SIGINT."""
    (tmp_path / "part").write_text("#!/bin/sh\nsetsid sleep 3601 & exec sleep 3600\n")
    (tmp_path / "part").chmod(0o755)
    stage = [parts.Part(name, "./part", 1, runs_tests=False) for name in ("one", "two")]
    quick = [parts.Part(name, "true", 1, runs_tests=False) for name in ("first", "beside")]
    monkeypatch.setattr(parts, "STAGES", [quick[:1], [*quick[1:], *stage]])
    processes_of, outcome_of = parts.processes_of, parts.outcome_of

    def noted_outcome_of(part: Any, *arguments: Any, **options: Any) -> Any:
        if part is quick[1]:
            has_ended.set()
        return outcome_of(part, *arguments, **options)

    def processes_when_terminated_again(*arguments: Any) -> Any:
        """As `timeout` and make do. The first call of `kill_processes_of` gets the second signal."""
        if is_terminated.is_set():
            is_terminated.clear()
            os.kill(os.getpid(), signal.SIGTERM)
        return processes_of(*arguments)

    is_terminated, has_ended = threading.Event(), threading.Event()
    monkeypatch.setattr(parts, "processes_of", processes_when_terminated_again)
    monkeypatch.setattr(parts, "outcome_of", noted_outcome_of)

    def terminate() -> None:
        while [sorted(processes_of(part, session=-1).values()) for part in stage] != running:
            time.sleep(0.01)
        has_ended.wait()
        is_terminated.set()
        os.kill(os.getpid(), signal.SIGTERM)

    running = [["sleep 3600", "sleep 3601"]] * 2
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=terminate, daemon=True).start()
    try:
        assert parts.main([]) == 130
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert not is_terminated.is_set()
    assert not any(processes_of(part, session=-1) for part in stage)
    printed = capfd.readouterr().out
    assert re.findall(r"^(\w+) +(\d+) +(\d+) ", printed, re.MULTILINE) == [
        ("first", "1", "0"),
        ("beside", "1", "0"),
        ("one", "0", "1"),
        ("two", "0", "1"),
        ("total", "2", "2"),
    ]
    assert "one: was interrupted" in printed


def test_part_that_would_start_too_late_is_left_out_and_the_table_says_so(
    parts: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = [
        [parts.Part("first", "sleep 0.3", 1, runs_tests=False)],
        [
            parts.Part("long", "false", 1, runs_tests=False, is_optional=True),
            parts.Part("other", "true", 1, runs_tests=False),
        ],
    ]
    monkeypatch.setattr(parts, "STAGES", stages)
    monkeypatch.setattr(parts, "ALL_MINUTES", 1.001)
    assert parts.main([]) == 0
    printed = capsys.readouterr().out
    assert "  long: left out, since time is short\n" in printed
    assert "2 passed, 0 failed, 1 skipped" in printed


def test_results_before_the_timeout_count(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ENDING_S", 60.0)
    # Like pytest, it writes its results when it is interrupted.
    (tmp_path / "part").write_text(
        """#!/bin/sh
        junit="${1##*--junitxml=}"
        finish() { kill $!; echo '<testsuite><testcase name="test_a"/></testsuite>' >"$junit"; exit 2; }
        trap finish INT
        sleep 3600 & wait
        """
    )
    (tmp_path / "part").chmod(0o755)
    outcome = run(parts, parts.Part("test", "./part", 1), tmp_path, 0.05)
    assert (outcome.passed, outcome.failed) == (1, ["test: takes longer than 0.1 minutes"])


def test_report_that_was_cut_off_is_no_result(parts: Any, tmp_path: Path) -> None:
    (tmp_path / "part").write_text('#!/bin/sh\necho "<testsuite><testcase" >"${1##*--junitxml=}"\n')
    (tmp_path / "part").chmod(0o755)
    assert run(parts, parts.Part("test", "./part", 1), tmp_path, 1).failed == ["test: no results of pytest"]


def test_unknown_part_is_rejected_with_the_names_of_all(parts: Any) -> None:
    with pytest.raises(SystemExit, match=r"No part is named lnt\. The parts are packages, setup, lint, test, "):
        parts.main(["lnt"])


def test_every_target_of_the_makefile_that_tests_is_a_part(parts: Any) -> None:
    targets = re.findall(r"^(test[a-z-]*|fuzz|lint):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    commands = [part.command.split() for stage in parts.STAGES for part in stage]
    assert {command[1] for command in commands if command[0] == "make"} == set(targets)


@pytest.mark.parametrize("file", ["Makefile", "pyproject.toml", "scripts/test_pythons"])
def test_tests_of_other_tasks_are_deselected(file: str) -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    markers = re.findall(r'^    "(\w+): .*only in `make [a-z-]+`', pyproject, flags=re.MULTILINE)
    assert len(markers) >= 6
    (expression,) = re.findall(r'"(not [^"]* and not fuzz and [^"]*)"', (ROOT / file).read_text())
    assert set(markers) - {"slow"} <= set(re.findall(r"not (\w+)", expression))


# --- the plugin ---


def test_skips_are_no_failures_without_the_option(run_pytest: Callable[..., tuple[int, str]]) -> None:
    status, _ = run_pytest(TESTS.replace("assert False", "pass"))
    assert status == pytest.ExitCode.OK


@pytest.mark.parametrize("workers", [(), ("-n", "2", "-p", "xdist")])
def test_avoidable_skips_fail_with_their_reason(
    run_pytest: Callable[..., tuple[int, str]], workers: tuple[str, ...]
) -> None:
    status, printed = run_pytest(TESTS.replace("assert False", "pass"), "--no-avoidable-skips", *workers)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "skipped, but it could run here: nginx is not installed" in printed
    assert "2 passed" in printed.replace("1 failed, ", "")
    assert "1 skipped" in printed


def test_module_that_is_skipped_fails_too(run_pytest: Callable[..., tuple[int, str]]) -> None:
    text = "import pytest\npytest.importorskip('no_such_module')\n"
    status, printed = run_pytest(text, "--no-avoidable-skips")
    assert status == pytest.ExitCode.INTERRUPTED
    assert "skipped, but it could run here: could not import 'no_such_module'" in printed


def test_expected_failure_is_not_a_skip(run_pytest: Callable[..., tuple[int, str]]) -> None:
    text = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_it(): assert False\n"
    assert run_pytest(text, "--no-avoidable-skips")[0] == pytest.ExitCode.OK


@pytest.mark.parametrize("workers", [(), ("-n", "2", "-p", "xdist")])
def test_session_in_which_no_test_ran_fails(
    run_pytest: Callable[..., tuple[int, str]], workers: tuple[str, ...]
) -> None:
    status, printed = run_pytest("import pytest\n@pytest.mark.skip\ndef test_it(): pass\n", *workers)
    assert status == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "No test ran: all were skipped." in printed
