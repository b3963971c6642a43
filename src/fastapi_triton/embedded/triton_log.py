# SPDX-License-Identifier: Apache-2.0
"""Reads the log of a Triton process, forwards its lines to our log, and finds the events of its start in them."""

import asyncio
import logging
import re
from collections.abc import Callable

logger = logging.getLogger("triton")

# `I1122 10:42:33.123456 4711 model_lifecycle.cc:472] "loading: model:1"`
_LINE = re.compile(r"^([IWEFV])\d{4} [\d:.]+ \d+ ([\w./-]+:\d+)\] ?\"?(.*?)\"?$")
_LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL, "V": logging.DEBUG}
_LOADED = re.compile(r"successfully loaded '([^']+)'")
_STARTED = re.compile(r"Started HTTPService at ")
# `tritonserver` prints these before and after its 400 lines of usage.
_UNKNOWN_OPTION = re.compile(r"tritonserver: ((?:unrecognized|unknown|invalid|ambiguous) option|option ).*")
_BAD_OPTION = re.compile(r"Bad option: \"?([^\"]*?)\"?\.?$")
_USAGE = re.compile(r"Usage: tritonserver\b")
_UNCAUGHT = re.compile(r"\s*what\(\):\s*(.+)")
_ERROR = re.compile(r"error: (.+)")
# Triton looks for a GPU at each start. On a machine without one, these are no problems.
_MISSES_GPU = re.compile(
    r"CudaDriverHelper has not been initialized|Unable to allocate pinned system memory, .*: CUDA driver version "
    r"|CUDA memory pool disabled"
)
# Longer lines are split.
_MAX_LINE_BYTES = 64 * 1024
_MAX_REASON = 300


class TritonLog:
    """The log of one Triton process.

    Args:
        has_gpu: whether this machine has an NVIDIA GPU. Without one, a missing CUDA driver is no problem.
        on_loaded: called with the name of each model that Triton has loaded.
        on_started: called when Triton serves HTTP.
    """

    def __init__(self, *, has_gpu: bool, on_loaded: Callable[[str], object], on_started: Callable[[], object]) -> None:
        self.has_started = False
        self._has_gpu = has_gpu
        self._on_loaded = on_loaded
        self._on_started = on_started
        self._is_usage = False
        self._option = ""
        self._uncaught = ""
        self._last_error = ""
        self._last_line = ""

    @property
    def reason(self) -> str:
        """Why Triton ended, according to its log: the option that it rejects, or its last error."""
        return (self._option or self._uncaught or self._last_error or self._last_line)[:_MAX_REASON]

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Read until Triton and every process that inherited its output have closed it."""
        pending = b""
        while chunk := await stream.read(65_536):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self.take(line.decode("utf-8", "replace").rstrip())
            if len(pending) > _MAX_LINE_BYTES:
                self.take(pending.decode("utf-8", "replace"))
                pending = b""
        if pending:
            self.take(pending.decode("utf-8", "replace").rstrip())

    def take(self, line: str) -> None:
        """Handle one line of the log."""
        parsed = _LINE.match(line)
        if parsed is not None and parsed[3]:
            level, source, text = parsed.groups()
            if not self._has_gpu and _MISSES_GPU.match(text):
                level = "V"
            logger.log(_LEVELS[level], "%s (%s)", text, source)
            if level in "EF":
                self._last_error = text
        elif line.startswith(("+", "|")):  # tables of options and models, thirty lines at each start
            logger.debug("%s", line)
        elif line and parsed is None:  # the usage text, or output of a Python model
            self._take_text(line)
        if loaded := _LOADED.search(line):
            self._on_loaded(loaded[1])
        if not self.has_started and _STARTED.search(line):
            self.has_started = True
            self._last_error = self._last_line = ""  # errors during the start are not why it ends later
            self._on_started()

    def _take_text(self, line: str) -> None:
        if uncaught := _UNCAUGHT.match(line):
            self._uncaught = uncaught[1]
        if not self.has_started:
            self._look_for_start_error(line)
        if self._is_usage:
            logger.debug("%s", line)
        else:
            logger.info("%s", line)
        self._last_line = line

    def _look_for_start_error(self, line: str) -> None:
        """Find the reason in the lines that `tritonserver` prints when it rejects an option."""
        if unknown := _UNKNOWN_OPTION.search(line):
            self._option = unknown[0]
        elif bad := _BAD_OPTION.match(line):
            self._option = f"tritonserver: bad option {bad[1]}"
        elif self._option.startswith("tritonserver: bad option") and "(" not in self._option and line.strip():
            self._option = f"{self._option} ({line.strip()})"
        elif error := _ERROR.match(line):
            self._last_error = error[1]
        self._is_usage = self._is_usage or _USAGE.match(line) is not None
