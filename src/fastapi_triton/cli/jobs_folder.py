# SPDX-License-Identifier: Apache-2.0
"""Where `fastapi-triton serve` keeps background jobs if nobody says."""

import hashlib
import importlib.util
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


def default_folder(port: int) -> str:
    """A folder of this user's for what is served from here on this port; empty where jobs are not installed.

    It is empty for a user without a home folder, too.

    It follows the XDG base directories: the state of programs that should outlast a restart.
    """
    if importlib.util.find_spec("dbos") is None:
        return ""
    here = Path.cwd()
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # a user without a home, as containers have
        logger.warning(
            "background jobs are off: this user has no home folder to keep them in. "
            "Name a folder with --jobs-folder, or set XDG_STATE_HOME."
        )
        return ""
    name = hashlib.sha256(os.fsencode(here)).hexdigest()[:12]
    return str(state / "fastapi-triton" / "jobs" / f"{here.name or 'root'}-{name}-{port}")
