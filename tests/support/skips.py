# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: a test that could run must run. `--no-avoidable-skips` fails it instead of skipping it."""

from collections.abc import Generator

import pytest

# What no package provides. Each is matched from the start of a skip's reason.
UNAVOIDABLE = (
    "needs a GPU",
    "needs IPv6 in the kernel",
    "needs Linux",
    "needs Ubuntu's archive",  # debootstrap's error follows
    "needs the server of uv's Python builds",
    "needs x86-64",
)
OPTION = "--no-avoidable-skips"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help="fail tests that are skipped, except for unavoidable reasons")


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """`longrepr` of a skip is its file, its line and "Skipped: ..."."""
    _, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
    return reason.removeprefix("Skipped: ")


def is_avoidable(report: pytest.TestReport | pytest.CollectReport) -> bool:
    """Whether the skipped test could run after an installation. Expected failures (`xfail`) are not skips."""
    return report.skipped and not hasattr(report, "wasxfail") and not reason_of(report).startswith(UNAVOIDABLE)


def fail_if_avoidable(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    if config.getoption(OPTION) and is_avoidable(report):
        report.outcome = "failed"
        report.longrepr = f"skipped, but it could run here: {reason_of(report)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_if_avoidable(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_if_avoidable(report, collector.config)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A session that ran no test fails: all of its tests were skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or session.config.option.collectonly or exitstatus != pytest.ExitCode.OK:
        return
    if not any(reporter.stats.get(outcome) for outcome in ("passed", "failed", "error", "xfailed", "xpassed")):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        reporter.write_line("No test ran: all were skipped.", red=True)
