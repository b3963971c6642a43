# SPDX-License-Identifier: Apache-2.0
"""A fetch makes a folder that equals the bucket, and downloads only what changed."""

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig

from fastapi_triton.embedded.s3_repository import snapshots, staging
from fastapi_triton.embedded.s3_repository.fetch import fetch
from support.s3_store import BUCKET, Store

URL = f"s3://{BUCKET}/models"
MEGABYTE = 1024 * 1024


@pytest.fixture
def echo(store: Store) -> Store:
    """A repository of three files."""
    store.put("models/echo/config.pbtxt", "name: 'echo'")
    store.put("models/echo/1/model.py", "one")
    store.put("models/echo/1/weights", "the weights")
    return store


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fetched(cache: Path) -> dict[str, bytes]:
    with fetch(URL, cache=cache) as snapshot:
        return files(snapshot.models)


def versions(cache: Path) -> list[Path]:
    return sorted(cache.glob("*/snapshots/*"))


def current(cache: Path) -> Path:
    (link,) = cache.glob("*/current")
    return link.resolve()


def gets(store: Store) -> int:
    return store.num_requests(f"GET /{BUCKET}/models/")


def test_the_folder_equals_the_bucket(store: Store, cache: Path) -> None:
    content = {
        "echo/config.pbtxt": b"name: 'echo'",
        "echo/1/model.py": b"",
        "echo/1/ein Wörterbuch 字典\u3000.txt": b"words",
        "echo/1/a+b%20c&d=e?.txt": b"odd",
        "echo/1/dots..in.name\\and more": b"fine",
    }
    for name, data in content.items():
        store.put(f"models/{name}", data)
    store.put("models-of-others/echo/config.pbtxt", b"other")
    store.put("models/")
    store.put("models/ensemble/1/")
    with fetch(f"{URL}/", cache=cache) as snapshot:
        assert files(snapshot.models) == content
        assert (snapshot.models / "ensemble" / "1").is_dir()
        assert current(cache) == snapshot.models
        assert not any(path.is_symlink() for path in snapshot.models.rglob("*"))


def test_a_store_in_the_url_needs_no_variable(echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with fetch(f"s3://{echo.url}/{BUCKET}/models", cache=cache) as snapshot:
        assert len(files(snapshot.models)) == 3


def test_a_whole_bucket_whose_list_has_many_pages_is_downloaded(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    for number in range(5):
        store.put(f"m/1/{number}")
    with fetch(f"s3://{BUCKET}", cache=cache) as snapshot:
        assert len(files(snapshot.models)) == 5
    assert store.num_requests("list-type=2") == 3


def test_a_second_fetch_only_lists_the_bucket(echo: Store, cache: Path) -> None:
    first = fetched(cache)
    echo.requests.clear()
    assert fetched(cache) == first
    assert [request.split("?")[0] for request in echo.requests] == [f"GET /{BUCKET}"]
    assert len(versions(cache)) == 1


def test_changed_files_are_downloaded_and_deleted_files_are_removed(echo: Store, cache: Path) -> None:
    fetched(cache)
    old = current(cache)
    echo.put("models/echo/1/model.py", "two")
    echo.remove("models/echo/1/weights")
    echo.requests.clear()
    assert fetched(cache) == {"echo/config.pbtxt": b"name: 'echo'", "echo/1/model.py": b"two"}
    assert gets(echo) == 1
    assert files(old)["echo/1/model.py"] == b"one", "a version in use never changes"
    unchanged = "echo/config.pbtxt"
    assert (old / unchanged).stat().st_ino == (current(cache) / unchanged).stat().st_ino, "unchanged files are shared"


def test_a_rollback_in_the_bucket_downloads_nothing(echo: Store, cache: Path) -> None:
    fetched(cache)
    first = current(cache)
    echo.put("models/echo/1/model.py", "two")
    fetched(cache)
    echo.put("models/echo/1/model.py", "one")
    echo.requests.clear()
    fetched(cache)
    assert current(cache) == first
    assert gets(echo) == 0


@pytest.mark.parametrize("damage", ["longer", "same size", "gone", "a link", "a lost manifest"])
def test_a_file_that_changed_on_disk_is_downloaded_again(echo: Store, cache: Path, tmp_path: Path, damage: str) -> None:
    first = fetched(cache)
    victim = current(cache) / "echo" / "1" / "weights"
    if damage == "a lost manifest":
        (current(cache).parent / "manifest.json").write_text("{")
    elif damage == "a link":
        victim.rename(tmp_path / "elsewhere")
        victim.symlink_to(tmp_path / "elsewhere")
    elif damage == "gone":
        victim.unlink()
    else:
        victim.chmod(0o644)
        victim.write_bytes(b"more weights" if damage == "longer" else b"THE WEIGHTS")
    echo.requests.clear()
    assert fetched(cache) == first
    assert gets(echo) == (3 if damage == "a lost manifest" else 1)


def test_files_that_a_model_writes_beside_its_own_are_ignored(echo: Store, cache: Path) -> None:
    fetched(cache)
    (current(cache) / "echo" / "1" / "__pycache__").mkdir()
    (current(cache) / "echo" / "1" / "__pycache__" / "model.pyc").touch()
    echo.requests.clear()
    fetched(cache)
    assert gets(echo) == 0
    echo.put("models/echo/1/model.py", "two")
    assert "echo/1/__pycache__/model.pyc" not in fetched(cache)


def test_old_versions_are_removed_unless_they_are_in_use(echo: Store, cache: Path) -> None:
    with fetch(URL, cache=cache) as in_use:
        for number in range(3):
            echo.put("models/echo/1/model.py", f"version {number}")
            fetched(cache)
        assert len(versions(cache)) == snapshots.NUM_KEPT + 1
        assert files(in_use.models)["echo/1/model.py"] == b"one"
    fetched(cache)
    assert len(versions(cache)) == snapshots.NUM_KEPT
    assert files(current(cache))["echo/1/model.py"] == b"version 2"


def test_files_of_a_killed_fetch_are_removed(echo: Store, cache: Path) -> None:
    fetched(cache)
    (folder,) = cache.iterdir()
    (folder / "incoming" / "models").mkdir(parents=True)
    (folder / "incoming" / "models" / "half").touch()
    (folder / "staging").mkdir()
    (folder / "staging" / "0123.part").write_bytes(b"half of a file")
    echo.put("models/echo/1/model.py", "two")
    fetched(cache)
    assert {path.name for path in folder.iterdir()} == {"lock", "snapshots", "current"}


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """Download in pieces of one megabyte."""
    monkeypatch.setattr(staging, "PIECE_BYTES", MEGABYTE)
    return MEGABYTE


def test_a_large_file_is_downloaded_in_pieces(echo: Store, cache: Path, small_pieces: int) -> None:
    large = random.Random(0).randbytes(3 * small_pieces + 1)  # noqa: S311
    echo.put("models/echo/1/weights", large)
    assert fetched(cache)["echo/1/weights"] == large
    assert echo.num_requests("weights bytes=") == 4


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "uploads"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_a_file_uploaded_in_parts_is_compared_with_its_etag(
    echo: Store, cache: Path, uploads: Path, small_pieces: int, caplog: pytest.LogCaptureFixture
) -> None:
    large = random.Random(0).randbytes(11 * MEGABYTE)  # noqa: S311
    (uploads / "weights").write_bytes(large)
    parts = TransferConfig(multipart_threshold=5 * MEGABYTE, multipart_chunksize=5 * MEGABYTE)
    echo.s3.upload_file(str(uploads / "weights"), BUCKET, "models/echo/1/weights", Config=parts)
    echo.damage("GET /my-bucket/models/echo/1/weights", times=1)
    assert fetched(cache)["echo/1/weights"] == large
    assert "its MD5 of parts is wrong" in caplog.text


@pytest.mark.parametrize("algorithm", ["CRC32C", "CRC64NVME", "SHA1"])
def test_a_whole_file_is_compared_with_the_checksum_of_s3(
    echo: Store, cache: Path, algorithm: str, caplog: pytest.LogCaptureFixture
) -> None:
    echo.put("models/echo/1/weights", "the weights", ChecksumAlgorithm=algorithm)
    echo.damage("weights", times=1)
    assert fetched(cache)["echo/1/weights"] == b"the weights"
    assert "did not match calculated checksum" in caplog.text


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC64NVME", "SHA256"])
def test_a_file_in_pieces_is_compared_with_the_checksum_of_s3(
    echo: Store, cache: Path, algorithm: str, small_pieces: int, caplog: pytest.LogCaptureFixture
) -> None:
    large = bytes(2 * small_pieces)
    echo.put("models/echo/1/weights", large, ChecksumAlgorithm=algorithm)
    echo.damage("weights", times=1)
    assert fetched(cache)["echo/1/weights"] == large
    assert f"its {algorithm} is wrong" in caplog.text


def test_a_file_without_a_checksum_is_compared_with_its_etag(
    echo: Store, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    echo.hide_checksums("GET")
    echo.damage("weights", times=1)
    assert fetched(cache)["echo/1/weights"] == b"the weights"
    assert "its MD5 is wrong" in caplog.text


def test_files_without_checksum_and_etag_are_counted_in_the_log(
    echo: Store, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    echo.put("models/echo/1/weights", "the weights", ServerSideEncryption="aws:kms")
    echo.hide_checksums("GET")
    with caplog.at_level("INFO"):
        assert fetched(cache)["echo/1/weights"] == b"the weights"
    assert "1 files have no checksum in S3" in caplog.text


def test_files_have_their_upload_time_and_are_read_only(echo: Store, cache: Path) -> None:
    fetched(cache)
    found = (current(cache) / "echo" / "1" / "weights").stat()
    uploaded_at = echo.s3.head_object(Bucket=BUCKET, Key="models/echo/1/weights")["LastModified"]
    assert (found.st_mtime, found.st_mode & 0o222) == (uploaded_at.timestamp(), 0)


def test_without_hard_links_files_are_copied(echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(target))

    monkeypatch.setattr(os, "link", refuse)
    first = fetched(cache)
    echo.put("models/echo/1/model.py", "two")
    echo.requests.clear()
    assert fetched(cache) == {**first, "echo/1/model.py": b"two"}
    assert gets(echo) == 1
    assert hashlib.sha256(first["echo/1/weights"]).digest() == hashlib.sha256(b"the weights").digest()
