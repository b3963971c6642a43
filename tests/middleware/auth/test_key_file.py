# SPDX-License-Identifier: Apache-2.0
"""A running server follows changes of the key file. An invalid file changes nothing, and is reported."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from fastapi_triton import TritonFrontend
from fastapi_triton.middleware.auth.key_file import KeyFile
from fastapi_triton.middleware.auth.keys import KeyFileError, new_secret
from support.api_keys import DRAWS, RULES, bearer, block
from support.app_on_socket import listening


@pytest.fixture
def file(key_file: Path) -> KeyFile:
    file = KeyFile(key_file)
    file.load()
    return file


def knows(file: KeyFile, secret: str) -> bool:
    return file.keys.find(secret.encode()) is not None


def failure_of(file: KeyFile) -> str:
    """The error of a poll of the file; empty if it succeeds."""
    try:
        file.poll()
    except KeyFileError as error:
        return str(error)
    return ""


def test_a_change_takes_effect_when_two_polls_find_it(file: KeyFile) -> None:
    added = new_secret()
    file.path.write_text(file.path.read_text() + block("new", added))
    file.poll()
    assert not knows(file, added)
    file.poll()
    assert knows(file, added)
    assert knows(file, DRAWS)


def test_a_renamed_file_is_a_change(file: KeyFile) -> None:
    new = file.path.with_name("new")
    new.write_text(block("rules", RULES))
    new.rename(file.path)
    file.poll()
    file.poll()
    assert knows(file, RULES)
    assert not knows(file, DRAWS)


@pytest.mark.parametrize("broken", [b"[keys.", b"\xff", b'[keys.x]\nsha256 = "abc"', None])
def test_an_invalid_file_keeps_the_keys_and_reports_the_cause(file: KeyFile, broken: bytes | None) -> None:
    before = file.path.read_bytes()
    file.path.unlink()
    if broken is not None:
        file.path.write_bytes(broken)
    failures = [failure_of(file) for _ in range(3)]
    assert f"{file.path} cannot be used: " in failures[-1]
    assert knows(file, DRAWS)
    file.path.write_bytes(before)
    for _ in range(3):
        file.poll()
    assert knows(file, DRAWS)


def test_a_token_bucket_survives_a_change_of_other_keys(file: KeyFile) -> None:
    key = file.keys.find(DRAWS.encode())
    assert key is not None
    assert key.bucket is not None
    for _ in range(3):
        assert key.bucket.take(1000) == 0
    file.path.write_text(file.path.read_text() + block("new", new_secret()))
    file.poll()
    file.poll()
    after = file.keys.find(DRAWS.encode())
    assert after is not None
    assert after is not key
    assert after.bucket is not None
    assert after.bucket.take(1000) > 0


@pytest.mark.parametrize("content", [None, "nonsense"])
async def test_a_server_does_not_start_with_an_unusable_key_file(
    app_with: Callable[..., TritonFrontend], tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "other.toml"
    if content:
        path.write_text(content)
    app = app_with(api_keys_file=str(path))
    with pytest.raises(KeyFileError, match=r"other\.toml"):
        async with app.router.lifespan_context(app):
            pytest.fail("it started")


async def test_an_app_without_lifespan_has_no_keys(app: TritonFrontend) -> None:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/openapi.json", headers=bearer(RULES))).status_code == 401


async def test_a_running_server_accepts_new_keys_and_rejects_removed_ones(app: TritonFrontend, key_file: Path) -> None:
    async with listening(app) as client:
        added = new_secret()
        assert (await client.get("/openapi.json", headers=bearer(RULES))).status_code == 200
        await asyncio.to_thread(key_file.write_text, block("new", added, 'scopes = ["docs"]'))
        while (await client.get("/openapi.json", headers=bearer(added))).status_code == 401:
            pass
        assert (await client.get("/openapi.json", headers=bearer(RULES))).status_code == 401
