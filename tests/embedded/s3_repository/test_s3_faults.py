# SPDX-License-Identifier: Apache-2.0
"""What goes wrong between here and a bucket: met where it can be, else one sentence, and nothing half appears."""

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
from store import BUCKET, Store

from fastapi_triton.embedded.s3_repository import client, staging, transfer
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.fetch import fetch

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


def refusal(url: str, cache: Path) -> str:
    """The one sentence."""
    with pytest.raises(S3ModelsError) as told:
        fetch(url, cache=cache)
    sentence = str(told.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


def weights(cache: Path) -> bytes:
    with fetch(URL, cache=cache) as snapshot:
        return (snapshot.models / "echo" / "1" / "weights").read_bytes()


# --- bodies ---


@pytest.mark.parametrize("trouble", ["cut", "cut to nothing", "damaged"])
def test_a_body_that_breaks_off_or_is_damaged_is_asked_for_again(echo: Store, cache: Path, trouble: str) -> None:
    if trouble == "damaged":
        echo.damage("/echo/1/weights", times=2)
    else:
        echo.cut("/echo/1/weights", after=0 if trouble == "cut to nothing" else 4, times=2)
    assert weights(cache) == b"the weights"
    assert echo.asked("/echo/1/weights") == 3


def test_an_object_that_never_comes_whole_is_refused_and_the_old_version_stays(echo: Store, cache: Path) -> None:
    with fetch(URL, cache=cache) as old:
        pass
    echo.put("models/echo/1/weights", "other weights")
    echo.cut("/echo/1/weights", after=4)
    sentence = refusal(URL, cache)
    assert f"{URL}/echo/1/weights did not come whole, 4 times" in sentence
    (link,) = cache.glob("*/current")
    assert link.resolve() == old.models
    assert len(list(cache.glob("*/snapshots/*"))) == 1


def test_a_damaged_object_is_refused_and_nothing_appears(echo: Store, cache: Path) -> None:
    echo.damage("/echo/1/weights")
    assert "checksum" in refusal(URL, cache)
    assert not list(cache.glob("*/snapshots/*"))
    assert not list(cache.glob("*/current"))


def test_more_bytes_than_listed_are_refused(echo: Store, cache: Path) -> None:
    echo.repeat("/echo/1/weights")
    assert "22 of 11 bytes came" in refusal(URL, cache)


# --- refusals of S3 ---


LIST, GET = "list-type=2", "weights"
KEYS_REFUSED = "AWS credentials in use are refused for"


@pytest.mark.parametrize(
    ("where", "status", "code", "words"),
    [
        (LIST, "403 Forbidden", "AccessDenied", f"{URL} may not be listed .* s3:ListBucket on arn:aws:s3:::{BUCKET}"),
        (GET, "403 Forbidden", "AccessDenied", rf"may not be read .* s3:GetObject on arn:aws:s3:::{BUCKET}/models/\*"),
        (LIST, "403 Forbidden", "InvalidAccessKeyId", KEYS_REFUSED),
        (LIST, "403 Forbidden", "SignatureDoesNotMatch", KEYS_REFUSED),
        (LIST, "400 Bad Request", "ExpiredToken", f"{KEYS_REFUSED} .* renew them"),
        (GET, "403 Forbidden", "InvalidObjectState", r"weights is in the archive \(Glacier\)"),
        (LIST, "501 Not Implemented", "NotImplemented", f"S3 does not give {URL}: 501 NotImplemented"),
    ],
)
def test_what_s3_refuses_is_one_sentence_that_names_it(
    echo: Store, cache: Path, where: str, status: str, code: str, words: str
) -> None:
    echo.answer(where, status, code)
    assert re.search(words, refusal(URL, cache))


def test_a_missing_bucket_is_named(store: Store, cache: Path) -> None:
    assert "There is no bucket my-bukcet" in refusal("s3://my-bukcet/models", cache)


def test_an_empty_prefix_is_named(echo: Store, cache: Path) -> None:
    assert f"There is nothing under s3://{BUCKET}/modles" in refusal(f"s3://{BUCKET}/modles", cache)


def test_a_bucket_elsewhere_is_told_with_its_region(echo: Store, cache: Path) -> None:
    echo.answer("", "301 Moved", "PermanentRedirect", **{"x-amz-bucket-region": "eu-central-1"})
    assert refusal(URL, cache) == (f"The bucket {BUCKET} is in the region eu-central-1: set AWS_DEFAULT_REGION to it.")


def test_throttling_is_waited_out(echo: Store, cache: Path) -> None:
    echo.answer("weights", "503 Slow Down", "SlowDown", times=1)
    assert weights(cache) == b"the weights"


# --- before there is an answer ---


def test_missing_credentials_are_told_with_where_they_are_looked_for(
    echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "There are no AWS credentials for" in refusal(URL, cache)
    assert not echo.requests


def test_half_credentials_and_unknown_profiles_are_named(
    echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "(nobody)" in refusal(URL, cache)
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "AWS credentials for" in refusal(URL, cache)


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


def test_an_endpoint_that_cannot_be_reached_is_named(echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_ATTEMPTS", 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        sentence = refusal(URL, cache)
    assert sentence.startswith("http://127.0.0.1:")
    assert "cannot be reached" in sentence


def test_a_malformed_endpoint_or_region_is_named(echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "store:9000")
    assert "store:9000" in refusal(URL, cache)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "no region")
    assert "no region" in refusal(URL, cache)


# --- a bucket that changes while it is read ---


def test_an_upload_in_between_gives_the_new_version(echo: Store, cache: Path) -> None:
    echo.call("list-type=2", lambda: echo.put("models/echo/1/weights", "newer"), times=1)
    assert weights(cache) == b"newer"


def test_an_object_that_vanishes_in_between_is_not_missed(echo: Store, cache: Path) -> None:
    echo.call("list-type=2", lambda: echo.remove("models/echo/1/model.py"), times=1)
    with fetch(URL, cache=cache) as snapshot:
        assert not (snapshot.models / "echo" / "1" / "model.py").exists()


def test_a_bucket_that_vanishes_in_between_is_named(echo: Store, cache: Path) -> None:
    echo.answer("/models/", "404 Not Found", "NoSuchBucket")
    assert f"There is no bucket {BUCKET}" in refusal(URL, cache)


def test_a_bucket_that_never_rests_is_told(echo: Store, cache: Path) -> None:
    numbers = iter(range(100))
    echo.call("list-type=2", lambda: echo.put("models/echo/1/weights", f"newer {next(numbers)}"))
    assert f"{URL} changed 3 times while it was read" in refusal(URL, cache)


# --- the disk ---


def test_too_little_room_is_told_before_anything_is_brought(
    echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    sentence = refusal(URL, cache)
    assert "needs 26 bytes more on the disk of" in sentence
    assert "1.0 kB are free" in sentence
    assert echo.asked("/models/") == 0


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may be larger than a megabyte: a disk that is full all of a sudden."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_is_one_sentence(echo: Store, cache: Path, small_files: None) -> None:
    echo.put("models/echo/1/weights", bytes(2 * 1024 * 1024))
    sentence = refusal(URL, cache)
    assert sentence.startswith(f"The disk below {cache}")
    assert "--models-cache" in sentence
    assert not list(cache.glob("*/snapshots/*"))


def test_a_cache_that_cannot_be_written_is_named(echo: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refusal(URL, tmp_path / "file" / "cache")


# --- other processes ---


@contextmanager
def process(cache: Path) -> Iterator[subprocess.Popen[str]]:
    """Somebody else's start with the same cache."""
    started = subprocess.Popen(
        [sys.executable, "-c", FETCH, URL, str(cache)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


class Held:
    """A request whose answer waits until the test lets it go."""

    def __init__(self) -> None:
        self.reached, self.let_go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        self.let_go.wait(60)


class Told(logging.Handler):
    """Knows when something was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.first = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.first.set()


@pytest.fixture
def waiting(caplog: pytest.LogCaptureFixture) -> Iterator[threading.Event]:
    """Set when this process says that it waits for another."""
    told = Told()
    logger = logging.getLogger("fastapi_triton.embedded.s3_repository.snapshots")
    with caplog.at_level(logging.INFO, logger.name):
        logger.addHandler(told)
        yield told.first
        logger.removeHandler(told)


def test_two_that_start_at_once_bring_everything_once(echo: Store, cache: Path, waiting: threading.Event) -> None:
    held = Held()
    echo.call("weights", held, times=1)
    with process(cache) as first, ThreadPoolExecutor(1) as pool:
        assert held.reached.wait(60)
        second = pool.submit(weights, cache)
        assert waiting.wait(60)
        held.let_go.set()
        assert second.result(60) == b"the weights"
        out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    (link,) = cache.glob("*/current")
    assert Path(out.strip()) == link.resolve()
    for name in ("config.pbtxt", "1/model.py", "1/weights"):
        assert echo.asked(f"/models/echo/{name}") == 1


def test_the_next_start_goes_on_where_a_killed_one_was(
    echo: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "PIECE_BYTES", 1024 * 1024)
    large = b"".join(bytes([each]) * 1024 * 1024 for each in range(5))
    echo.put("models/echo/1/weights", large)
    held = Held()
    first_pieces = threading.Semaphore(3)  # it has one thread, so they are done before the next is asked for
    echo.call("/weights", lambda: None if first_pieces.acquire(blocking=False) else held())
    with process(cache) as killed:
        assert held.reached.wait(60)
        killed.kill()
        killed.communicate(timeout=60)
    held.let_go.set()
    echo.requests.clear()
    assert weights(cache) == large
    assert echo.asked("weights bytes=") == 2
    assert echo.asked("model.py") == 0
