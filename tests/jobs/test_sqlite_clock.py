# SPDX-License-Identifier: Apache-2.0
"""Times in milliseconds on an SQLite that has none."""

import time

import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError

from fastapi_triton.jobs.sqlite_clock import with_clock

DEBIAN_12, FIRST_WITHOUT_NEED = (3, 40, 1), (3, 42, 0)
# As DBOS does on Python 3.12 and newer.
TABLE = "CREATE TABLE jobs (id INTEGER, created INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000))"


def test_a_table_of_dbos_gets_whole_milliseconds() -> None:
    engine = sqlalchemy.create_engine(with_clock("sqlite://", DEBIAN_12))
    before = time.time_ns() // 1_000_000
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(TABLE))
        connection.execute(sqlalchemy.text("INSERT INTO jobs (id) VALUES (1)"))
        created = connection.execute(sqlalchemy.text("SELECT created FROM jobs")).scalar_one()
    assert isinstance(created, int)
    assert before <= created <= time.time_ns() // 1_000_000
    engine.dispose()


def test_another_modifier_is_an_error() -> None:
    engine = sqlalchemy.create_engine(with_clock("sqlite://", DEBIAN_12))
    with engine.connect() as connection, pytest.raises(OperationalError):
        connection.execute(sqlalchemy.text("SELECT unixepoch('now')")).scalar_one()
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "version"),
    [
        ("sqlite:////var/lib/jobs.sqlite", FIRST_WITHOUT_NEED),
        ("postgresql://user:p%40ss@host/database", DEBIAN_12),
    ],
)
def test_other_databases_keep_their_own_clock(url: str, version: tuple[int, ...]) -> None:
    assert with_clock(url, version) == url


@pytest.mark.parametrize("path", ["/tmp/jobs.sqlite", "/a newcomer's folder/100%/jobs.sqlite"])
def test_the_path_of_the_database_stays_the_same(path: str) -> None:
    url = f"sqlite:///{path}"
    assert sqlalchemy.make_url(with_clock(url, DEBIAN_12)).database == sqlalchemy.make_url(url).database
