# SPDX-License-Identifier: Apache-2.0
"""Ray's environment variables on this machine, and the logging of the processes that Ray starts."""

import contextlib
import os
import sys

from fastapi_triton.core.settings import Settings
from fastapi_triton.observability import logging_config

_VARIABLES = {
    # No usage reports to Ray's developers.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's own log stays in its files. Our log shows every line, also if two Tritons log the same text.
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_DEDUP_LOGS": "0",
    # Ray's workers, and the Tritons below them, run at normal priority (Ray's default is 15).
    "RAY_worker_niceness": "0",
    # For uvicorn, which is Ray's proxy: the app has its own list of trusted proxies.
    "FORWARDED_ALLOW_IPS": "",
}


def configure_ray() -> None:
    """Set the variables that are not set yet. Call this before importing ray, which reads some of them."""
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)


def configure_logging(settings: Settings) -> None:
    """Log to the real standard error, which Ray passes on to the terminal that started the cluster.

    In a replica, `sys.stderr` writes to one of Ray Serve's own log files.
    """
    with contextlib.redirect_stderr(sys.__stderr__):
        logging_config.configure(settings)
