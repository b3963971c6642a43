# SPDX-License-Identifier: Apache-2.0
"""The clock of SQLite in milliseconds, for an SQLite that has none.

On Python 3.12 and newer, DBOS calls `unixepoch('subsec')`, also in the defaults of its tables' columns. SQLite 3.42 and
newer have it. Older releases, such as 3.40 of Debian 12, return NULL, and then no job could be stored.
"""

import sqlite3
import time
from typing import Any

import sqlalchemy

_FIRST_WITH_MILLISECONDS = (3, 42, 0)
_PLUGIN = "fastapi_triton.sqlite_clock"


class SqliteClock(sqlalchemy.CreateEnginePlugin):
    """Adds the function to each connection of an engine. `with_clock` puts its name into the engine's URL."""

    def update_url(self, url: sqlalchemy.URL) -> sqlalchemy.URL:
        return url

    def engine_created(self, engine: sqlalchemy.Engine) -> None:
        sqlalchemy.event.listen(engine, "connect", _add_clock)


sqlalchemy.dialects.plugins.register(_PLUGIN, __name__, SqliteClock.__name__)


def with_clock(url: str, version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str:
    """The URL of a database, with this plugin if it is an SQLite database and this process's SQLite needs it.

    A newer SQLite may have created the database, so the Python version does not matter.
    """
    parsed = sqlalchemy.make_url(url)
    if parsed.get_backend_name() != "sqlite" or version >= _FIRST_WITH_MILLISECONDS:
        return url
    return parsed.update_query_pairs([("plugin", _PLUGIN)], append=True).render_as_string(hide_password=False)


def _add_clock(connection: sqlite3.Connection, _record: Any) -> None:
    connection.create_function("unixepoch", 1, _unixepoch)


def _unixepoch(modifier: str) -> float:
    if modifier != "subsec":
        raise ValueError(f"only unixepoch('subsec') is supported, not unixepoch({modifier!r})")
    return time.time_ns() // 1_000_000 / 1000
