# SPDX-License-Identifier: Apache-2.0
"""An S3 with one bucket, and an environment in which AWS clients use it and nothing else."""

import functools
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest

from support.s3_store import Store


@pytest.fixture(scope="session")
def _server() -> Iterator[Store]:
    # Each client reads megabytes of AWS service descriptions. The cache reads them once.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        with Store().running() as store:
            yield store


@pytest.fixture
def store(_server: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", _server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _server.empty()
    return _server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "a cache"
