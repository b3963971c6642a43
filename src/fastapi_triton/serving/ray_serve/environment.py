# SPDX-License-Identifier: Apache-2.0
"""Ray's settings on this machine, and the logging of the processes that Ray starts."""

import contextlib
import os
import sys

from fastapi_triton.core.settings import Settings
from fastapi_triton.observability import logging_config

_VARIABLES = {
    # It reports nothing home.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its own log stays in its files. Of ours each line is shown, also where two Tritons log the same.
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_DEDUP_LOGS": "0",
    # Its workers, with the Tritons below them, are no less important than other programs (Ray's own value is 15).
    "RAY_worker_niceness": "0",
    # uvicorn's, which Ray's proxy is: the app decides itself which proxies to believe.
    "FORWARDED_ALLOW_IPS": "",
}


def configure_ray() -> None:
    """Set the variables that are not set yet. Ray reads some of them when it is imported: call this before."""
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)


def configure_logging(settings: Settings) -> None:
    """Log to the real standard error, which Ray passes on to the terminal that started the cluster.

    In a replica, `sys.stderr` writes to one of Ray Serve's own log files.
    """
    with contextlib.redirect_stderr(sys.__stderr__):
        logging_config.configure(settings)
