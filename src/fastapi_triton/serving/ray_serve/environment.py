# SPDX-License-Identifier: Apache-2.0
"""What Ray on this machine is told by the environment. Some of it is read when Ray is imported: set it before."""

import os

_ENVIRONMENT = {
    # It reports nothing home.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its own log stays in its files, and of ours each line is shown: of two Tritons that end, each is told of.
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_DEDUP_LOGS": "0",
    # Its workers, with the Tritons below them, are no less important than other programs (Ray's own value is 15).
    "RAY_worker_niceness": "0",
    # uvicorn's, which Ray's proxy is: the app knows itself whose word on a caller's address it takes.
    "FORWARDED_ALLOW_IPS": "",
}


def configure() -> None:
    """Set what is not set yet."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
