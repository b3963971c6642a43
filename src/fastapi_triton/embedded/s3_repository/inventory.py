# SPDX-License-Identifier: Apache-2.0
"""What lies under a prefix: one listing, held against what a model repository on a disk can be."""

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

# Someone who names a bucket's root by mistake shall not wait for ten million keys.
MOST_FILES = 100_000
_LONGEST_NAME = 255  # bytes, on every Linux file system
_LONGEST_PATH = 1024  # as S3's own limit for keys
# Control characters, and what was no UTF-8.
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One object."""

    key: str
    path: str  # below the repository, with slashes
    size: int  # bytes
    etag: str  # with its quotes
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything under a prefix at one moment."""

    files: tuple[RemoteFile, ...]  # by path
    folders: tuple[str, ...]  # that have a marker, `folder/`; an ensemble's version folder may hold nothing else

    @classmethod
    def take(cls, client: S3Client, location: Location) -> Self:
        """List the bucket.

        Raises:
            S3ModelsError: it may not be listed, or what is in it is no model repository.
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
        """All of it."""
        return sum(file.size for file in self.files)

    @property
    def version(self) -> str:
        """The same for the same content, whenever it was uploaded."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.path}\0{file.size}\0{file.etag}\n".encode())
        digest.update("\n".join(self.folders).encode())
        return digest.hexdigest()[:16]

    def _require_models(self, location: Location) -> None:
        """A model is a folder with a config.pbtxt or with a version, `1/`."""
        if not self.files:
            raise S3ModelsError(f"There is nothing under {location}: look for a slip in the key, or upload the models.")
        if any(_is_of_model(PurePosixPath(file.path).parts) for file in self.files):
            return
        deeper = Counter(parts[0] for file in self.files if _is_of_model((parts := PurePosixPath(file.path).parts)[1:]))
        if deeper:
            hint = f"did you mean {location}/{deeper.most_common(1)[0][0]}?"
        elif any(file.path == "config.pbtxt" for file in self.files):
            hint = "it is a model itself; name what is above it."
        else:
            hint = "a model is a folder with a config.pbtxt."
        raise S3ModelsError(f"There is no model under {location}, only {len(self.files)} other objects: {hint}")

    def _require_one_tree(self, location: Location) -> None:
        """S3 can have `a` and `a/b`; a disk cannot."""
        folders = {str(parent) for file in self.files for parent in PurePosixPath(file.path).parents}
        folders.update(self.folders)
        for file in self.files:
            if file.path in folders:
                raise S3ModelsError(
                    f"{location.url(file.key)} is an object, and there are others below it: on a disk it cannot be "
                    "a file and a folder; remove one of them."
                )


def _listed(client: S3Client, location: Location) -> Iterable[dict[str, Any]]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=location.prefix)
    num_files = 0
    with readable_errors(location, doing="list"):
        for page in pages:
            for each in page.get("Contents", ()):
                num_files += 1
                if num_files > MOST_FILES:
                    raise S3ModelsError(
                        f"There are more than {MOST_FILES:,} objects under {location}: name the prefix of the models."
                    )
                yield each


def _path(key: str, location: Location) -> str:
    """Where the object goes; with a slash at the end it is a folder's marker.

    Raises:
        S3ModelsError: no file below the repository can have that name.
    """
    path = key.removeprefix(location.prefix)
    names = path.removesuffix("/").split("/")
    if path and (len(path) > _LONGEST_PATH or not all(_is_file_name(name) for name in names)):
        raise S3ModelsError(
            f"{location.url()} has the key {key!r}, which is no name for a file below a model repository: "
            "rename or remove the object."
        )
    return path


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and not _UNFIT.search(name) and len(name.encode()) <= _LONGEST_NAME


def _is_of_model(parts: tuple[str, ...]) -> bool:
    """`model/config.pbtxt`, or `model/1/…`."""
    return len(parts) >= 2 and (parts[1:] == ("config.pbtxt",) or (len(parts) > 2 and parts[1].isdigit()))


def format_bytes(number: float) -> str:
    """`1.4 GB`; decimal, as disks and buckets are measured."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
