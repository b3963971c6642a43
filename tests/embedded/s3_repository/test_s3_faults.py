# SPDX-License-Identifier: Apache-2.0
"""Faults during a download: retried if that helps, else one line of error; an incomplete version never appears."""

import logging
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastapi_triton.embedded.s3_repository import client, staging, transfer
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.fetch import fetch
from support.s3_store import BUCKET, Store

URL = f"s3://{BUCKET}/models"
FETCH = """
import sys
from fastapi_triton.embedded.s3_repository import fetch, staging
staging.PIECE_BYTES = 1024 * 1024
print(fetch.fetch(sys.argv[1], cache=fetch.Path(sys.argv[2]), num_threads=1).models)
"""


@pytest.fixture
def echo(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(transfer, "FIRST_BACKOFF_S", 0.0)
    store.put("models/echo/config.pbtxt", "name: 'echo'")
    store.put("models/echo/1/model.py", "one")
    store.put("models/echo/1/weights", "the weights")
    return store


def error_of(url: str, cache: Path) -> str:
    """Fetch, and return the text of the error."""
    with pytest.raises(S3ModelsError) as raised:
        fetch(url, cache=cache)
    text = str(raised.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


def weights(cache: Path) -> bytes:
    with fetch(URL, cache=cache) as snapshot:
        return (snapshot.models / "echo" / "1" / "weights").read_bytes()


# --- bodies ---


@pytest.mark.parametrize("fault", ["cut", "cut to nothing", "damaged"])
def test_a_truncated_or_damaged_body_is_requested_again(echo: Store, cache: Path, fault: str) -> None:
    if fault == "damaged":
        echo.damage("/echo/1/weights", times=2)
    else:
        echo.cut("/echo/1/weights", after=0 if fault == "cut to nothing" else 4, times=2)
    assert weights(cache) == b"the weights"
    assert echo.num_requests("/echo/1/weights") == 3


def test_after_repeated_truncated_downloads_the_old_version_stays(echo: Store, cache: Path) -> None:
    with fetch(URL, cache=cache) as old:
        pass
    echo.put("models/echo/1/weights", "other weights")
    echo.cut("/echo/1/weights", after=4)
    text = error_of(URL, cache)
    assert f"{URL}/echo/1/weights arrived incomplete 4 times" in text
    (link,) = cache.glob("*/current")
    assert link.resolve() == old.models
    assert len(list(cache.glob("*/snapshots/*"))) == 1


def test_after_repeated_damaged_downloads_no_version_appears(echo: Store, cache: Path) -> None:
    echo.damage("/echo/1/weights")
    assert "checksum" in error_of(URL, cache)
    assert not list(cache.glob("*/snapshots/*"))
    assert not list(cache.glob("*/current"))


def test_a_body_longer_than_listed_is_rejected(echo: Store, cache: Path) -> None:
    echo.repeat("/echo/1/weights")
    assert "received 22 of 11 bytes" in error_of(URL, cache)


# --- error responses of S3 ---


LIST, GET = "list-type=2", "weights"
INVALID_CREDENTIALS = "S3 rejects the AWS credentials for"


@pytest.mark.parametrize(
    ("where", "status", "code", "words"),
    [
        (
            LIST,
            "403 Forbidden",
            "AccessDenied",
            f"may not list {URL}. They need s3:ListBucket on arn:aws:s3:::{BUCKET}",
        ),
        (GET, "403 Forbidden", "AccessDenied", rf"may not read .* s3:GetObject on arn:aws:s3:::{BUCKET}/models/\*"),
        (LIST, "403 Forbidden", "InvalidAccessKeyId", INVALID_CREDENTIALS),
        (LIST, "403 Forbidden", "SignatureDoesNotMatch", INVALID_CREDENTIALS),
        (LIST, "400 Bad Request", "ExpiredToken", f"{INVALID_CREDENTIALS} .* Renew them"),
        (GET, "403 Forbidden", "InvalidObjectState", r"weights is archived \(Glacier\)"),
        (LIST, "501 Not Implemented", "NotImplemented", f"The request for {URL} failed: 501 NotImplemented"),
    ],
)
def test_an_error_response_of_s3_becomes_one_line_with_the_cause(
    echo: Store, cache: Path, where: str, status: str, code: str, words: str
) -> None:
    echo.fail(where, status, code)
    assert re.search(words, error_of(URL, cache))


def test_a_missing_bucket_is_reported(store: Store, cache: Path) -> None:
    assert "There is no bucket my-bukcet" in error_of("s3://my-bukcet/models", cache)


def test_an_empty_prefix_is_reported(echo: Store, cache: Path) -> None:
    assert f"There is nothing under s3://{BUCKET}/modles" in error_of(f"s3://{BUCKET}/modles", cache)


def test_the_error_for_a_bucket_in_another_region_has_the_region(echo: Store, cache: Path) -> None:
    echo.fail("", "301 Moved", "PermanentRedirect", **{"x-amz-bucket-region": "eu-central-1"})
    assert error_of(URL, cache) == f"The bucket {BUCKET} is in the region eu-central-1. Set AWS_DEFAULT_REGION to it."


def test_a_throttled_request_is_sent_again(echo: Store, cache: Path) -> None:
    echo.fail("weights", "503 Slow Down", "SlowDown", times=1)
    assert weights(cache) == b"the weights"


# --- errors without a response ---


def test_missing_credentials_are_reported_without_a_request(
    echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "There are no AWS credentials for" in error_of(URL, cache)
    assert not echo.requests


def test_incomplete_credentials_and_unknown_profiles_are_reported(
    echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "(nobody)" in error_of(URL, cache)
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "AWS credentials for" in error_of(URL, cache)


def test_a_profile_of_the_config_file_is_used(
    echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    (tmp_path / "no-config").write_text(
        "[profile lab]\naws_access_key_id = k\naws_secret_access_key = s\nregion = eu-west-1\n"
        f"endpoint_url = {echo.url}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert weights(cache) == b"the weights"


def test_an_unreachable_endpoint_is_reported(echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_ATTEMPTS", 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        text = error_of(URL, cache)
    assert text.startswith("http://127.0.0.1:")
    assert "cannot be reached" in text


def test_a_malformed_endpoint_or_region_is_reported(echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "store:9000")
    assert "store:9000" in error_of(URL, cache)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "no region")
    assert "no region" in error_of(URL, cache)


# --- a bucket that changes during the download ---


def test_an_object_replaced_during_the_download_has_its_new_content(echo: Store, cache: Path) -> None:
    echo.call("list-type=2", lambda: echo.put("models/echo/1/weights", "newer"), times=1)
    assert weights(cache) == b"newer"


def test_an_object_deleted_during_the_download_is_not_part_of_the_version(echo: Store, cache: Path) -> None:
    echo.call("list-type=2", lambda: echo.remove("models/echo/1/model.py"), times=1)
    with fetch(URL, cache=cache) as snapshot:
        assert not (snapshot.models / "echo" / "1" / "model.py").exists()


def test_a_bucket_deleted_during_the_download_is_reported(echo: Store, cache: Path) -> None:
    echo.fail("/models/", "404 Not Found", "NoSuchBucket")
    assert f"There is no bucket {BUCKET}" in error_of(URL, cache)


def test_a_bucket_that_changes_in_every_download_is_reported(echo: Store, cache: Path) -> None:
    numbers = iter(range(100))
    echo.call("list-type=2", lambda: echo.put("models/echo/1/weights", f"newer {next(numbers)}"))
    assert f"{URL} changed during 3 downloads" in error_of(URL, cache)


# --- the disk ---


def test_too_little_disk_space_is_reported_before_the_download(
    echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    text = error_of(URL, cache)
    assert "needs 26 bytes more on the disk of" in text
    assert "1.0 kB are free" in text
    assert echo.num_requests("/models/") == 0


@pytest.fixture
def small_files() -> Iterator[None]:
    """Limit files of this process to a megabyte, as if the disk became full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_becomes_full_is_reported(echo: Store, cache: Path, small_files: None) -> None:
    echo.put("models/echo/1/weights", bytes(2 * 1024 * 1024))
    text = error_of(URL, cache)
    assert text.startswith(f"The disk of {cache}")
    assert "--models-cache" in text
    assert not list(cache.glob("*/snapshots/*"))


def test_a_cache_that_is_not_writable_is_reported(echo: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in error_of(URL, tmp_path / "file" / "cache")


# --- other processes ---


@contextmanager
def process(cache: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that fetches into the same cache."""
    started = subprocess.Popen(
        [sys.executable, "-c", FETCH, URL, str(cache)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


class HeldResponse:
    """Holds back a response until the test releases it."""

    def __init__(self) -> None:
        self.reached, self.released = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        self.released.wait(60)


class LogEvent(logging.Handler):
    """Sets an event when something is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.logged = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.logged.set()


@pytest.fixture
def waiting(caplog: pytest.LogCaptureFixture) -> Iterator[threading.Event]:
    """Set when this process logs that it waits for another."""
    handler = LogEvent()
    logger = logging.getLogger("fastapi_triton.embedded.s3_repository.snapshots")
    with caplog.at_level(logging.INFO, logger.name):
        logger.addHandler(handler)
        yield handler.logged
        logger.removeHandler(handler)


def test_two_simultaneous_fetches_download_each_file_once(echo: Store, cache: Path, waiting: threading.Event) -> None:
    held = HeldResponse()
    echo.call("weights", held, times=1)
    with process(cache) as first, ThreadPoolExecutor(1) as pool:
        assert held.reached.wait(60)
        second = pool.submit(weights, cache)
        assert waiting.wait(60)
        held.released.set()
        assert second.result(60) == b"the weights"
        out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    (link,) = cache.glob("*/current")
    assert Path(out.strip()) == link.resolve()
    for name in ("config.pbtxt", "1/model.py", "1/weights"):
        assert echo.num_requests(f"/models/echo/{name}") == 1


def test_the_next_fetch_resumes_a_killed_one(echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "PIECE_BYTES", 1024 * 1024)
    large = b"".join(bytes([each]) * 1024 * 1024 for each in range(5))
    echo.put("models/echo/1/weights", large)
    held = HeldResponse()
    first_pieces = threading.Semaphore(3)  # with one thread, they are complete before the next request
    echo.call("/weights", lambda: None if first_pieces.acquire(blocking=False) else held())
    with process(cache) as killed:
        assert held.reached.wait(60)
        killed.kill()
        killed.communicate(timeout=60)
    held.released.set()
    echo.requests.clear()
    assert weights(cache) == large
    assert echo.num_requests("weights bytes=") == 2
    assert echo.num_requests("model.py") == 0
