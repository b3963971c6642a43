# SPDX-License-Identifier: Apache-2.0
"""Keeps complete versions of a repository on this disk. Each appears in one step, and never changes afterwards.

In the cache, in `<bucket>-<hash of the URL>/`:

- `lock`: only the process that holds it changes this folder
- `staging/`: unfinished downloads
- `snapshots/<time>-<version>/models/`: the folder for Triton, with a `manifest.json` beside it
- `current`: a link to the `models/` that the last fetch returned
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fastapi_triton.embedded.s3_repository.inventory import Inventory, RemoteFile
from fastapi_triton.embedded.s3_repository.location import Location
from fastapi_triton.embedded.s3_repository.staging import Staging

logger = logging.getLogger(__name__)

# The current version, and the previous one for a rollback.
NUM_KEPT = 2


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A file of a snapshot, as it was when the snapshot was made."""

    path: Path
    key: str
    etag: str
    size: int
    mtime_ns: int

    def is_intact(self) -> bool:
        """Whether the file is unchanged on the disk."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)

    def holds(self, file: RemoteFile) -> bool:
        """Whether it is the same object as the one in the bucket."""
        return (self.key, self.etag, self.size) == (file.key, file.etag, file.size)


class Snapshot:
    """A version that this process uses. While it is open, no process removes it."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.models = folder / "models"
        self._lock = lock

    @classmethod
    def hold(cls, folder: Path) -> Self:
        """Put a shared lock on the folder. The kernel releases it when this process ends."""
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_SH)
        return cls(folder, lock)

    def keep_over_exec(self) -> None:
        """Keep the lock when another program replaces this process."""
        os.set_inheritable(self._lock, True)

    def close(self) -> None:
        """Release the lock: other processes may remove this version."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Snapshots:
    """All versions of one location."""

    def __init__(self, cache: Path, location: Location) -> None:
        # A hash, since the URL may have any length and any character; the bucket's name is for people.
        digest = hashlib.sha256(f"{location.endpoint or ''}\0{location}".encode()).hexdigest()[:12]
        self.folder = cache / f"{location.folder_name}-{digest}"
        self.staging_folder = self.folder / "staging"
        self._snapshots = self.folder / "snapshots"
        self._location = location

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this location. Waits while another process holds it."""
        self._snapshots.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("another process downloads %s; waiting for it", self._location)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def find(self, inventory: Inventory) -> Snapshot | None:
        """Find an unchanged snapshot of the bucket's content, and make it the current one."""
        for folder in self._newest_first():
            if folder.name.endswith(f"-{inventory.version}") and _is_complete(folder, inventory):
                return self._switch_to(folder)
        return None

    def unchanged(self, inventory: Inventory) -> dict[str, Path]:
        """The files of earlier versions that equal those in the bucket, by key."""
        found: dict[str, Path] = {}
        wanted = {file.key: file for file in inventory.files}
        for folder in self._newest_first():
            for entry in _manifest(folder):
                file = wanted.get(entry.key)
                if file is not None and entry.key not in found and entry.holds(file) and entry.is_intact():
                    found[entry.key] = entry.path
        return found

    def add(self, inventory: Inventory, unchanged: Mapping[str, Path], staging: Staging) -> Snapshot:
        """Make a new version from unchanged and downloaded files, and switch to it."""
        name = f"{time.strftime('%Y%m%dT%H%M%S')}.{time.time_ns() % 10**9:09}-{inventory.version}"
        incoming = self.folder / "incoming"
        shutil.rmtree(incoming, ignore_errors=True)
        models = incoming / "models"
        models.mkdir(parents=True)
        for each in inventory.folders:
            (models / each).mkdir(parents=True, exist_ok=True)
        entries = []
        for file in inventory.files:
            target = models / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(unchanged.get(file.key) or staging.finished(file), target)
            mtime_ns = target.stat().st_mtime_ns
            entries.append(
                {"path": file.path, "key": file.key, "etag": file.etag, "size": file.size, "mtime_ns": mtime_ns}
            )
        manifest = {"source": str(self._location), "version": inventory.version, "files": entries}
        (incoming / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        incoming.rename(self._snapshots / name)
        shutil.rmtree(self.staging_folder, ignore_errors=True)
        return self._switch_to(self._snapshots / name)

    def prune(self) -> None:
        """Remove old versions that no process uses."""
        current = (self.folder / "current").resolve().parent
        others = [folder for folder in self._newest_first() if folder != current]
        for folder in others[NUM_KEPT - 1 :]:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
                    logger.info("removed the old version %s", folder)
            finally:
                os.close(lock)

    def _switch_to(self, folder: Path) -> Snapshot:
        """Make this version the current one, by renaming a link."""
        snapshot = Snapshot.hold(folder)
        link = self.folder / "current.new"
        link.unlink(missing_ok=True)
        link.symlink_to((folder / "models").relative_to(self.folder))
        link.replace(self.folder / "current")
        return snapshot

    def _newest_first(self) -> list[Path]:
        return sorted(self._snapshots.iterdir(), reverse=True)


def _link_or_copy(source: Path, target: Path) -> None:
    """Hard-link the file, or copy it if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        shutil.copy2(source, target)


def _manifest(folder: Path) -> list[SnapshotFile]:
    """The files of a version; none if its manifest cannot be read."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return [
            SnapshotFile(folder / "models" / each["path"], each["key"], each["etag"], each["size"], each["mtime_ns"])
            for each in manifest["files"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        logger.warning("%s cannot be read; downloading its files again", folder / "manifest.json")
        return []


def _is_complete(folder: Path, inventory: Inventory) -> bool:
    entries = _manifest(folder)
    return (
        {(entry.key, entry.etag, entry.size) for entry in entries}
        == {(file.key, file.etag, file.size) for file in inventory.files}
        and all(entry.is_intact() for entry in entries)
        and all((folder / "models" / each).is_dir() for each in inventory.folders)
    )
