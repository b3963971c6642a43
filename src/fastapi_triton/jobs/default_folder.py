# SPDX-License-Identifier: Apache-2.0
"""Where `fastapi-triton serve` keeps background jobs if nobody says."""

import hashlib
import importlib.util
import os
from pathlib import Path


def default_folder(port: int) -> str:
    """A folder of this user's for what is served from here on this port; empty where jobs are not installed.

    It follows the XDG base directories: the state of programs that should outlast a restart.
    """
    if importlib.util.find_spec("dbos") is None:
        return ""
    here = Path.cwd()
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    name = hashlib.sha256(os.fsencode(here)).hexdigest()[:12]
    return str(state / "fastapi-triton" / "jobs" / f"{here.name or 'root'}-{name}-{port}")
