# SPDX-License-Identifier: Apache-2.0
"""What is in the bucket is what is on the disk, as a whole, and as little as possible is brought."""

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig
from store import BUCKET, Store

from fastapi_triton.embedded.s3_repository import snapshots, staging
from fastapi_triton.embedded.s3_repository.fetch import fetch

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
    return store.asked(f"GET /{BUCKET}/models/")


def test_a_repository_comes_as_it_is_in_the_bucket(store: Store, cache: Path) -> None:
    content = {
        "echo/config.pbtxt": b"name: 'echo'",
        "echo/1/model.py": b"",
        "echo/1/ein Wörterbuch 字典\u3000.txt": b"words",
        "echo/1/a+b%20c&d=e?.txt": b"odd",
        "echo/1/dots..in.name\\and more": b"fine",
    }
    for name, data in content.items():
        store.put(f"models/{name}", data)
    store.put("models-of-others/echo/config.pbtxt", b"not ours")
    store.put("models/")
    store.put("models/ensemble/1/")
    with fetch(f"{URL}/", cache=cache) as snapshot:
        assert files(snapshot.models) == content
        assert (snapshot.models / "ensemble" / "1").is_dir()
        assert current(cache) == snapshot.models
        assert not any(path.is_symlink() for path in snapshot.models.rglob("*"))


def test_a_store_named_in_the_url_needs_no_variable(echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with fetch(f"s3://{echo.url}/{BUCKET}/models", cache=cache) as snapshot:
        assert len(files(snapshot.models)) == 3


def test_a_bucket_may_be_a_repository_and_its_list_have_many_pages(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    for number in range(5):
        store.put(f"m/1/{number}")
    with fetch(f"s3://{BUCKET}", cache=cache) as snapshot:
        assert len(files(snapshot.models)) == 5
    assert store.asked("list-type=2") == 3


def test_a_second_start_asks_for_nothing_but_the_list(echo: Store, cache: Path) -> None:
    first = fetched(cache)
    echo.requests.clear()
    assert fetched(cache) == first
    assert [request.split("?")[0] for request in echo.requests] == [f"GET /{BUCKET}"]
    assert len(versions(cache)) == 1


def test_what_changed_is_brought_and_what_vanished_is_gone(echo: Store, cache: Path) -> None:
    fetched(cache)
    old = current(cache)
    echo.put("models/echo/1/model.py", "two")
    echo.remove("models/echo/1/weights")
    echo.requests.clear()
    assert fetched(cache) == {"echo/config.pbtxt": b"name: 'echo'", "echo/1/model.py": b"two"}
    assert gets(echo) == 1
    assert files(old)["echo/1/model.py"] == b"one", "a version that is being served never changes"
    unchanged = "echo/config.pbtxt"
    assert (old / unchanged).stat().st_ino == (current(cache) / unchanged).stat().st_ino, "it takes no second place"


def test_going_back_in_the_bucket_brings_nothing(echo: Store, cache: Path) -> None:
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
def test_a_file_that_was_changed_here_is_brought_again(echo: Store, cache: Path, tmp_path: Path, damage: str) -> None:
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


def test_what_a_model_writes_beside_its_files_does_not_matter(echo: Store, cache: Path) -> None:
    fetched(cache)
    (current(cache) / "echo" / "1" / "__pycache__").mkdir()
    (current(cache) / "echo" / "1" / "__pycache__" / "model.pyc").touch()
    echo.requests.clear()
    fetched(cache)
    assert gets(echo) == 0
    echo.put("models/echo/1/model.py", "two")
    assert "echo/1/__pycache__/model.pyc" not in fetched(cache)


def test_few_old_versions_are_kept_but_each_that_is_in_use(echo: Store, cache: Path) -> None:
    with fetch(URL, cache=cache) as in_use:
        for number in range(3):
            echo.put("models/echo/1/model.py", f"version {number}")
            fetched(cache)
        assert len(versions(cache)) == snapshots.NUM_KEPT + 1
        assert files(in_use.models)["echo/1/model.py"] == b"one"
    fetched(cache)
    assert len(versions(cache)) == snapshots.NUM_KEPT
    assert files(current(cache))["echo/1/model.py"] == b"version 2"


def test_what_a_killed_start_left_is_cleared_away(echo: Store, cache: Path) -> None:
    fetched(cache)
    (place,) = cache.iterdir()
    (place / "incoming" / "models").mkdir(parents=True)
    (place / "incoming" / "models" / "half").touch()
    (place / "staging").mkdir()
    (place / "staging" / "0123.part").write_bytes(b"half of something")
    echo.put("models/echo/1/model.py", "two")
    fetched(cache)
    assert {path.name for path in place.iterdir()} == {"lock", "snapshots", "current"}


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """Files of more than a megabyte go in pieces of one."""
    monkeypatch.setattr(staging, "PIECE_BYTES", MEGABYTE)
    return MEGABYTE


def test_a_large_file_comes_in_pieces_and_is_whole(echo: Store, cache: Path, small_pieces: int) -> None:
    large = random.Random(0).randbytes(3 * small_pieces + 1)  # noqa: S311
    echo.put("models/echo/1/weights", large)
    assert fetched(cache)["echo/1/weights"] == large
    assert echo.asked("weights bytes=") == 4


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "uploads"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_what_was_uploaded_in_parts_is_checked_by_its_etag(
    echo: Store, cache: Path, uploads: Path, small_pieces: int, caplog: pytest.LogCaptureFixture
) -> None:
    large = random.Random(0).randbytes(11 * MEGABYTE)  # noqa: S311
    (uploads / "weights").write_bytes(large)
    parts = TransferConfig(multipart_threshold=5 * MEGABYTE, multipart_chunksize=5 * MEGABYTE)
    echo.s3.upload_file(str(uploads / "weights"), BUCKET, "models/echo/1/weights", Config=parts)
    echo.damage("GET /my-bucket/models/echo/1/weights", times=1)
    assert fetched(cache)["echo/1/weights"] == large
    assert "its MD5 of parts is another" in caplog.text


@pytest.mark.parametrize("algorithm", ["CRC32C", "CRC64NVME", "SHA1"])
def test_every_checksum_of_s3_is_held(
    echo: Store, cache: Path, algorithm: str, caplog: pytest.LogCaptureFixture
) -> None:
    echo.put("models/echo/1/weights", "the weights", ChecksumAlgorithm=algorithm)
    echo.damage("weights", times=1)
    assert fetched(cache)["echo/1/weights"] == b"the weights"
    assert "did not match calculated checksum" in caplog.text


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC64NVME", "SHA256"])
def test_so_is_that_of_a_file_in_pieces(
    echo: Store, cache: Path, algorithm: str, small_pieces: int, caplog: pytest.LogCaptureFixture
) -> None:
    large = bytes(2 * small_pieces)
    echo.put("models/echo/1/weights", large, ChecksumAlgorithm=algorithm)
    echo.damage("weights", times=1)
    assert fetched(cache)["echo/1/weights"] == large
    assert f"its {algorithm} is another" in caplog.text


def test_without_a_checksum_the_etag_is_held(echo: Store, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    echo.hide_checksums("GET")
    echo.damage("weights", times=1)
    assert fetched(cache)["echo/1/weights"] == b"the weights"
    assert "its MD5 is another" in caplog.text


def test_files_without_any_are_counted_in_the_log(echo: Store, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    echo.put("models/echo/1/weights", "the weights", ServerSideEncryption="aws:kms")
    echo.hide_checksums("GET")
    with caplog.at_level("INFO"):
        assert fetched(cache)["echo/1/weights"] == b"the weights"
    assert "1 files have no checksum in S3" in caplog.text


def test_files_keep_the_time_of_their_upload_and_are_not_to_be_written_to(echo: Store, cache: Path) -> None:
    fetched(cache)
    found = (current(cache) / "echo" / "1" / "weights").stat()
    told = echo.s3.head_object(Bucket=BUCKET, Key="models/echo/1/weights")["LastModified"]
    assert (found.st_mtime, found.st_mode & 0o222) == (told.timestamp(), 0)


def test_a_disk_without_hard_links_gets_copies(echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(target))

    monkeypatch.setattr(os, "link", refuse)
    first = fetched(cache)
    echo.put("models/echo/1/model.py", "two")
    echo.requests.clear()
    assert fetched(cache) == {**first, "echo/1/model.py": b"two"}
    assert gets(echo) == 1
    assert hashlib.sha256(first["echo/1/weights"]).digest() == hashlib.sha256(b"the weights").digest()
