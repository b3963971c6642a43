# SPDX-License-Identifier: Apache-2.0
"""A job's files: its request, its progress, its result. Only the process's user may read them.

All methods block and may raise `OSError`: call them in a thread. Files are written atomically.
"""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from fastapi_triton.core import atomic_file
from fastapi_triton.jobs.job import Progress

_PROGRESS, _RESULT = "progress.json", "result.json"
_REQUEST = "request.json"  # of jobs that an earlier version of the frontend accepted


class JobFiles:
    """The folder of jobs: a folder for each job, the marks of expired jobs, and the database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "jobs.sqlite"
        self._jobs = folder / "files"
        self._expired = folder / "expired"

    def prepare(self) -> None:
        """Create the folders, with access for this user only."""
        for each in (self.folder, self._jobs, self._expired):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # it may exist already, with other rights
        self.database.touch(mode=0o600)

    def secret(self) -> bytes:
        """The secret from which the ids of jobs with an idempotency key are made. It stays the same for this folder."""
        path = self.folder / "secret"
        if not path.exists():
            atomic_file.create(path, secrets.token_bytes(32))  # does nothing if another process was faster
        return path.read_bytes()

    def keep_request(self, job_id: str, fingerprint: str, request: bytes) -> None:
        """Store a request durably, or not at all. An existing request with this fingerprint is kept.

        The folder may hold requests with other fingerprints: of a process that died before its job was in the queue, or
        of a process that is adding a job with the same id. The fingerprint in the queue decides which one is run.
        """
        folder = self._jobs / job_id
        folder.mkdir(mode=0o700, exist_ok=True)
        os.utime(folder)  # so that housekeeping does not remove an old folder now
        try:
            atomic_file.create(folder / _request_name(fingerprint), request)
        except OSError:
            with contextlib.suppress(OSError):  # fails if the folder holds another request
                folder.rmdir()
            raise
        atomic_file.sync_folder(self._jobs)
        (self._expired / job_id).unlink(missing_ok=True)

    def request(self, job_id: str, fingerprint: str) -> bytes | None:
        """The stored request of the job with this fingerprint."""
        stored = self._read(job_id, _request_name(fingerprint))
        return self._read(job_id, _REQUEST) if stored is None else stored

    def keep_progress(self, job_id: str, progress: Progress) -> None:
        """Store the progress, without `fsync`: it may be lost in a power cut."""
        self._replace(job_id, _PROGRESS, orjson.dumps(progress), is_durable=False)

    def progress(self, job_id: str) -> Progress:
        data = self._read(job_id, _PROGRESS)
        return Progress(**orjson.loads(data)) if data else Progress()

    def keep_result(self, job_id: str, result: bytes) -> None:
        self._replace(job_id, _RESULT, result, is_durable=True)

    def result(self, job_id: str) -> bytes | None:
        return self._read(job_id, _RESULT)

    def remove(self, job_id: str) -> None:
        """Remove a job's files."""
        shutil.rmtree(self._jobs / job_id, ignore_errors=True)

    def expire(self, job_id: str) -> None:
        """Remove a job's files, and mark it as expired."""
        (self._expired / job_id).touch(mode=0o600)
        self.remove(job_id)

    def is_expired(self, job_id: str) -> bool:
        return (self._expired / job_id).exists()

    def forget_expired(self, *, older_than_s: float) -> None:
        """Remove the marks of jobs that expired longer ago than this."""
        for mark in _older(self._expired, older_than_s):
            mark.unlink(missing_ok=True)

    def ids(self, *, older_than_s: float) -> list[str]:
        """The ids of jobs whose files are older than this, accepted or not."""
        return [path.name for path in _older(self._jobs, older_than_s)]

    def _read(self, job_id: str, name: str) -> bytes | None:
        try:
            return (self._jobs / job_id / name).read_bytes()
        except FileNotFoundError:
            return None

    def _replace(self, job_id: str, name: str, data: bytes, *, is_durable: bool) -> None:
        """Write a file. Does nothing if the job was removed meanwhile."""
        with (
            contextlib.suppress(FileNotFoundError),
            atomic_file.replacing(self._jobs / job_id / name, is_durable=is_durable) as file,
        ):
            file.write(data)


def _request_name(fingerprint: str) -> str:
    return f"request-{fingerprint}.json"


def _older(folder: Path, age_s: float) -> Iterator[Path]:
    for entry in os.scandir(folder):
        try:
            if entry.stat().st_mtime < time.time() - age_s:
                yield Path(entry.path)
        except FileNotFoundError:
            continue
