# SPDX-License-Identifier: Apache-2.0
"""The engine's log lines in Triton's log, with a fake of Triton's module."""

import importlib
import logging
from types import SimpleNamespace

import pytest
from triton_backend import backend


def test_lines_have_the_nearest_level_of_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    backend()
    log_handler = importlib.import_module("triton_adapter.log_handler")
    lines: list[tuple[str, str]] = []
    names = ("log_info", "log_warn", "log_error")
    fake = SimpleNamespace(**{name: lambda text, name=name: lines.append((name, text)) for name in names})
    monkeypatch.setattr(log_handler.pb_utils, "Logger", fake)
    log_handler.TritonLogHandler.install()
    logger = logging.getLogger("diffusion_engine.weights")
    try:
        logger.debug("hidden")
        logger.info("%d rows", 2)
        logger.warning("short of memory")
        logger.critical("the GPU broke")
    finally:
        logging.getLogger("diffusion_engine").handlers.clear()
        logging.getLogger("diffusion_engine").setLevel(logging.NOTSET)
    assert lines == [("log_info", "2 rows"), ("log_warn", "short of memory"), ("log_error", "the GPU broke")]
