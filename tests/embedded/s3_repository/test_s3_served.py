# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton serve --embedded --models s3://…` with a real Triton."""

import shutil
from pathlib import Path

import pytest

from support.s3_store import BUCKET, Store
from support.serving import ECHO_APP, serving

pytestmark = pytest.mark.integration


def upload(store: Store, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            store.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())


def test_models_in_a_bucket_are_served(store: Store, tmp_path: Path, cache: Path) -> None:
    upload(store, ECHO_APP / "models", "our models")
    shutil.copy(ECHO_APP / "main.py", tmp_path)
    options = ("--embedded", "--models", f"s3://{BUCKET}/our models", "--models-cache", str(cache))
    with serving(*options, folder=tmp_path) as server:
        server.wait_until_ready()
        response = server.post("/echo", json={"text": "hello"})
        assert (response.status_code, response.json()) == (200, {"text": "hello"})
