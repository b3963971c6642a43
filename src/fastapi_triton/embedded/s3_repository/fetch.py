# SPDX-License-Identifier: Apache-2.0
"""`fetch("s3://bucket/prefix")` downloads a model repository into a folder, without files that are there already."""

import logging
import os
import shutil
import time
from pathlib import Path

from fastapi_triton.embedded.s3_repository.client import S3Client, open_client
from fastapi_triton.embedded.s3_repository.error_mapping import ChangedMeanwhileError, readable_disk_errors
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.inventory import Inventory, format_bytes
from fastapi_triton.embedded.s3_repository.location import Location
from fastapi_triton.embedded.s3_repository.snapshots import Snapshot, Snapshots
from fastapi_triton.embedded.s3_repository.staging import Staging
from fastapi_triton.embedded.s3_repository.transfer import Transfer

logger = logging.getLogger(__name__)

NUM_THREADS = 16
# Listings per fetch, since an upload may change objects meanwhile.
MOST_LISTINGS = 3
# Left free on the disk for other programs.
SPARE_BYTES = 64 * 1024 * 1024


def default_cache() -> Path:
    """The value of `FASTAPI_TRITON_MODELS_CACHE`, else a folder in the user's cache.

    Raises:
        S3ModelsError: the user has no home folder.
    """
    named = os.environ.get("FASTAPI_TRITON_MODELS_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "fastapi-triton" / "models"
    except RuntimeError:
        raise S3ModelsError(
            "This user has no home folder for the models. Choose a folder with --models-cache "
            "or FASTAPI_TRITON_MODELS_CACHE."
        ) from None


def fetch(url: str, *, cache: Path | None = None, num_threads: int = NUM_THREADS) -> Snapshot:
    """Download the bucket's content. `models` of the result is the folder for Triton; close it when Triton has ended.

    Blocks until the download is complete. Any number of processes may call it at the same time.

    Raises:
        S3ModelsError: the models cannot be downloaded.
    """
    location = Location.parse(url)
    client = open_client(location, num_connections=num_threads)
    folder = (cache or default_cache()).absolute()
    with readable_disk_errors(folder):
        snapshots = Snapshots(folder, location)
        with snapshots.locked():
            snapshot = _latest(client, location, snapshots, num_threads)
            snapshots.prune()
    return snapshot


def _latest(client: S3Client, location: Location, snapshots: Snapshots, num_threads: int) -> Snapshot:
    for _ in range(MOST_LISTINGS):
        inventory = Inventory.take(client, location)
        existing = snapshots.find(inventory)
        if existing is not None:
            logger.info("%s: all %d files are in the cache", location, len(inventory.files))
            return existing
        try:
            return _download(client, location, snapshots, inventory, num_threads)
        except ChangedMeanwhileError as change:
            logger.warning("%s changed during the download; listing the bucket again", location.url(str(change)))
    raise S3ModelsError(f"{location} changed during {MOST_LISTINGS} downloads. Wait until the upload is complete.")


def _download(
    client: S3Client, location: Location, snapshots: Snapshots, inventory: Inventory, num_threads: int
) -> Snapshot:
    started = time.monotonic()
    unchanged = snapshots.unchanged(inventory)
    changed = [file for file in inventory.files if file.key not in unchanged]
    staging = Staging(snapshots.staging_folder)
    staging.prepare(changed)
    num_bytes = sum(piece.num_bytes for file in changed for piece in staging.missing(file))
    _require_disk_space(snapshots.folder, num_bytes, location)
    logger.info(
        "%s: %d files, %s; downloading %d of them, %s",
        location, len(inventory.files), format_bytes(inventory.num_bytes), len(changed), format_bytes(num_bytes),
    )  # fmt: skip
    transfer = Transfer(client, location, staging)
    transfer.run(changed, num_threads=num_threads)
    if transfer.num_unchecked:
        logger.info("%d files have no checksum in S3; only their sizes were compared", transfer.num_unchecked)
    snapshot = snapshots.add(inventory, unchanged, staging)
    took_s = time.monotonic() - started
    logger.info("downloaded %s in %.1f s to %s", location, took_s, snapshot.models)
    return snapshot


def _require_disk_space(folder: Path, num_bytes: int, location: Location) -> None:
    free = shutil.disk_usage(folder).free
    if num_bytes + SPARE_BYTES > free:
        raise S3ModelsError(
            f"{location} needs {format_bytes(num_bytes)} more on the disk of {folder}; {format_bytes(free)} are free. "
            "Free some space, or choose another folder with --models-cache."
        )
