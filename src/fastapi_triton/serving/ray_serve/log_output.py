# SPDX-License-Identifier: Apache-2.0
"""What our processes below Ray log: to their real standard error, which Ray passes on to who started the cluster."""

import contextlib
import sys

from fastapi_triton.core.settings import Settings
from fastapi_triton.observability import logging_config


def configure(settings: Settings) -> None:
    """As without Ray, whose replicas make every line on `sys.stderr` one of Ray Serve's own log files."""
    with contextlib.redirect_stderr(sys.__stderr__):
        logging_config.configure(settings)
