# SPDX-License-Identifier: Apache-2.0
"""Lists the objects under a prefix, and rejects those that cannot be files of a model repository on a disk."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Self

from fastapi_triton.embedded.s3_repository.client import S3Client
from fastapi_triton.embedded.s3_repository.error_mapping import readable_errors
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.location import Location

# A URL of the wrong bucket fails soon, instead of listing ten million keys.
MOST_FILES = 100_000
_LONGEST_NAME = 255  # bytes, on every Linux file system
_LONGEST_PATH = 1024  # S3's own limit for keys
# Control characters, and bytes that are not UTF-8.
_INVALID_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """An object in the bucket, as a file of the repository."""

    key: str
    path: str  # in the repository, with slashes
    size: int  # bytes
    etag: str  # with its quotes
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything under a prefix at one moment."""

    files: tuple[RemoteFile, ...]  # by path
    folders: tuple[str, ...]  # with a marker, `folder/`: the version folder of an ensemble may be empty otherwise

    @classmethod
    def take(cls, client: S3Client, location: Location) -> Self:
        """List the bucket.

        Raises:
            S3ModelsError: it cannot be listed, or its content is not a model repository.
        """
        files, folders = [], []
        for each in _listed(client, location):
            path = _path(each["Key"], location)
            if not path or path.endswith("/"):
                folders.append(path.rstrip("/"))
                continue
            modified_ns = int(each["LastModified"].timestamp() * 1_000_000_000)
            files.append(RemoteFile(each["Key"], path, each["Size"], each["ETag"], modified_ns))
        inventory = cls(
            tuple(sorted(files, key=lambda file: file.path)), tuple(sorted(name for name in folders if name))
        )
        inventory._require_models(location)
        inventory._require_one_tree(location)
        return inventory

    @property
    def num_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files)

    @property
    def version(self) -> str:
        """A hash of the content; it does not depend on the time of the upload."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.path}\0{file.size}\0{file.etag}\n".encode())
        digest.update("\n".join(self.folders).encode())
        return digest.hexdigest()[:16]

    def _require_models(self, location: Location) -> None:
        """Raise if there is no model: a folder with a config.pbtxt or with a version, `1/`."""
        if not self.files:
            raise S3ModelsError(f"There is nothing under {location}. Check the prefix, or upload the models.")
        if any(_is_of_model(PurePosixPath(file.path).parts) for file in self.files):
            return
        deeper = Counter(parts[0] for file in self.files if _is_of_model((parts := PurePosixPath(file.path).parts)[1:]))
        if deeper:
            hint = f"Did you mean {location}/{deeper.most_common(1)[0][0]}?"
        elif any(file.path == "config.pbtxt" for file in self.files):
            hint = "It is a model itself; use the prefix above it."
        else:
            hint = "A model is a folder with a config.pbtxt."
        raise S3ModelsError(f"There is no model under {location}, only {len(self.files)} other objects. {hint}")

    def _require_one_tree(self, location: Location) -> None:
        """Raise if there are objects `a` and `a/b`, which a disk cannot have."""
        folders = {str(parent) for file in self.files for parent in PurePosixPath(file.path).parents}
        folders.update(self.folders)
        for file in self.files:
            if file.path in folders:
                raise S3ModelsError(
                    f"{location.url(file.key)} is an object, and there are others below it. On a disk it cannot be "
                    "both a file and a folder. Remove one of them."
                )


def _listed(client: S3Client, location: Location) -> Iterable[dict[str, Any]]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=location.prefix)
    num_files = 0
    with readable_errors(location, operation="list"):
        for page in pages:
            for each in page.get("Contents", ()):
                num_files += 1
                if num_files > MOST_FILES:
                    raise S3ModelsError(
                        f"There are more than {MOST_FILES:,} objects under {location}. Use the prefix of the models."
                    )
                yield each


def _path(key: str, location: Location) -> str:
    """The object's path in the repository. One that ends with a slash is the marker of a folder.

    Raises:
        S3ModelsError: the key cannot be a path on a disk.
    """
    path = key.removeprefix(location.prefix)
    names = path.removesuffix("/").split("/")
    if path and (len(path) > _LONGEST_PATH or not all(_is_file_name(name) for name in names)):
        raise S3ModelsError(
            f"{location.url()} has the key {key!r}, which cannot be the path of a file. Rename or remove the object."
        )
    return path


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and not _INVALID_CHARACTERS.search(name) and len(name.encode()) <= _LONGEST_NAME


def _is_of_model(parts: tuple[str, ...]) -> bool:
    """`model/config.pbtxt`, or `model/1/…`."""
    return len(parts) >= 2 and (parts[1:] == ("config.pbtxt",) or (len(parts) > 2 and parts[1].isdigit()))


def format_bytes(number: float) -> str:
    """Format a size in decimal units: `1.4 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
