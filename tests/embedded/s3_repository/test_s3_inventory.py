# SPDX-License-Identifier: Apache-2.0
"""The keys that can be a model repository on a disk, and the errors for others."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fastapi_triton.embedded.s3_repository import inventory
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.inventory import Inventory
from fastapi_triton.embedded.s3_repository.location import Location

LOCATION = Location("bucket", "models/", None)


class Listing:
    """A client whose bucket has these keys."""

    def __init__(self, *keys: str, etag: str = '"e"', modified: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.pages = [{"Contents": [{"Key": key, "Size": 3, "ETag": etag, "LastModified": modified}]} for key in keys]

    def get_paginator(self, operation_name: str) -> "Listing":
        assert operation_name == "list_objects_v2"
        return self

    def paginate(self, **arguments: Any) -> list[dict[str, Any]]:
        assert arguments == {"Bucket": "bucket", "Prefix": "models/"}
        return [*self.pages, {}]

    def get_object(self, **arguments: Any) -> dict[str, Any]:
        raise NotImplementedError

    head_object = get_object


def take(*keys: str, **arguments: Any) -> Inventory:
    return Inventory.take(Listing(*keys, **arguments), LOCATION)


@pytest.mark.parametrize(
    "key",
    [
        "models/../evil",
        "models/a/../../evil",
        "models//etc/passwd",
        "models/a//b",
        "models/./a",
        "models/a/..",
        "models/../",
        "models/a\nb",
        "models/a\0b",
        "models/" + "ü" * 128,
        "models/" + "a/" * 1100 + "b",
        "models/bad-\udcff",
    ],
)
def test_a_key_that_is_not_a_safe_file_path_is_rejected(key: str) -> None:
    with pytest.raises(S3ModelsError, match="cannot be the path of a file") as raised:
        take("models/m/config.pbtxt", key)
    assert repr(key) in str(raised.value)


def test_an_object_and_a_folder_of_the_same_name_are_rejected() -> None:
    for keys in (("models/m/1", "models/m/1/model.py"), ("models/m/1", "models/m/1/")):
        with pytest.raises(S3ModelsError, match="s3://bucket/models/m/1 is an object, and there are others below it"):
            take("models/m/config.pbtxt", *keys)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ((), "There is nothing under s3://bucket/models."),
        (("models/",), "There is nothing under s3://bucket/models."),
        (("models/README.md",), "no model under s3://bucket/models, only 1 other objects"),
        (("models/v2/m/config.pbtxt", "models/v2/n/1/model.onnx"), r"Did you mean s3://bucket/models/v2\?"),
        (("models/config.pbtxt", "models/1/model.py"), "It is a model itself; use the prefix above it"),
    ],
)
def test_the_error_for_a_prefix_without_models_has_a_hint(keys: tuple[str, ...], words: str) -> None:
    with pytest.raises(S3ModelsError, match=words):
        take(*keys)


@pytest.mark.parametrize("key", ["models/m/config.pbtxt", "models/m/1/model.onnx"])
def test_a_folder_with_a_config_or_a_version_is_a_model(key: str) -> None:
    assert [file.key for file in take(key, "models/notes.txt", "models/empty/").files] == [key, "models/notes.txt"]


def test_listing_ends_at_the_limit_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MOST_FILES", 2)
    with pytest.raises(S3ModelsError, match="more than 2 objects"):
        take("models/m/config.pbtxt", "models/m/1/a", "models/m/1/b")


def test_the_version_depends_on_the_content_and_not_on_the_upload_time() -> None:
    keys = ("models/m/config.pbtxt", "models/m/1/a")
    version = take(*keys).version
    assert take(*reversed(keys), modified=datetime(2026, 2, 2, tzinfo=UTC)).version == version
    assert take(*keys, etag='"other"').version != version
    assert take(*keys, "models/m/2/").version != version
