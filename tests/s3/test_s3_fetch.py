# SPDX-License-Identifier: Apache-2.0
"""What is in the bucket is what is on the disk, and as little as possible is brought."""

from pathlib import Path

from store import BUCKET, Store

from fastapi_triton.s3_models.fetch import fetch

URL = f"s3://{BUCKET}/models"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_repository_comes_as_it_is_in_the_bucket(store: Store, cache: Path) -> None:
    content = {
        "echo/config.pbtxt": b"name: 'echo'",
        "echo/1/model.py": b"",
        "echo/1/ein Wörterbuch 字典.txt": b"words",
        "echo/1/a+b%20c&d=e?.txt": b"odd",
        "echo/1/dots..in.name": b"fine",
    }
    for name, data in content.items():
        store.put(f"models/{name}", data)
    store.put("models-of-others/echo/config.pbtxt", b"not ours")
    store.put("models/")
    store.put("models/ensemble/1/")
    with fetch(f"{URL}/", cache=cache) as snapshot:
        assert files(snapshot.models) == content
        assert (snapshot.models / "ensemble" / "1").is_dir()
