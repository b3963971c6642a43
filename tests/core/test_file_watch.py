# SPDX-License-Identifier: Apache-2.0
"""Files are reloaded when they change, and only then."""

from pathlib import Path

import pytest

from fastapi_triton.core.file_watch import Reloaded, stat_version


def test_files_are_reloaded_when_one_of_them_is_replaced(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text("1")
    loads = []

    def load(_: object) -> str:
        loads.append(None)
        return "".join(file.read_text() for file in files)

    reloaded = Reloaded(lambda: stat_version(files), load)
    assert [reloaded.get(), reloaded.get()] == ["11", "11"]
    assert len(loads) == 1
    (tmp_path / "new").write_text("2")
    (tmp_path / "new").replace(files[1])
    assert [reloaded.get(), reloaded.get()] == ["12", "12"]
    assert len(loads) == 2


def test_failed_loads_are_retried(tmp_path: Path) -> None:
    file = tmp_path / "number"
    reloaded = Reloaded(lambda: stat_version([file]), lambda _: int(file.read_text()))
    with pytest.raises(FileNotFoundError):
        reloaded.get()
    file.write_text("x")
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            reloaded.get()
    file.write_text("17")
    assert reloaded.get() == 17


def test_an_unsettled_change_is_not_loaded() -> None:
    versions = iter(["a", "b", "c", "c", "c"])
    reloaded = Reloaded(lambda: next(versions), str.upper, must_settle=True)
    assert [reloaded.get() for _ in range(5)] == ["A", "A", "A", "C", "C"]
