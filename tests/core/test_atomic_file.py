# SPDX-License-Identifier: Apache-2.0
"""Files are written whole or not at all, and no temporary file remains."""

from pathlib import Path

import pytest

from fastapi_triton.core import atomic_file


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    with atomic_file.replacing(path, mode=0o640) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_block_leaves_the_file_unchanged(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")

    def fail() -> None:
        with atomic_file.replacing(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_removed_folder_is_not_created_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file.replacing(tmp_path / "gone" / "a"):
        pass
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_not_overwritten_by_create(tmp_path: Path) -> None:
    path = tmp_path / "a"
    atomic_file.create(path, b"first")
    atomic_file.create(path, b"second")
    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
