# SPDX-License-Identifier: Apache-2.0
"""What a job is made of, as files: its request, its progress, its answer. Only the process's user may read them.

Everything here blocks, and may raise `OSError`: the caller has it done in a thread. A file is there whole, or
not at all.
"""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import orjson

from fastapi_triton.jobs.job import Progress

_PROGRESS, _RESULT = "progress.json", "result.json"
_REQUEST = "request.json"  # of jobs that an earlier version accepted
_UNFINISHED = ".new-"  # begins the name of a folder that is still being written


class JobFiles:
    """A folder of job folders, one per id, beside empty marks for the jobs that have expired."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "jobs.sqlite"
        self._jobs = folder / "files"
        self._expired = folder / "expired"

    def prepare(self) -> None:
        """Make the folder, for this user alone."""
        for each in (self.folder, self._jobs, self._expired):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # it may have been there
        self.database.touch(mode=0o600)

    def secret(self) -> bytes:
        """What the ids of jobs with an idempotency key are made with; it lasts as long as the folder."""
        path = self.folder / "secret"
        if not path.exists():
            fresh = self.folder / f"{_UNFINISHED}{secrets.token_hex(8)}"
            _write(fresh, secrets.token_bytes(32))
            try:
                os.link(fresh, path)  # unless another process was first
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_bytes()

    def keep_request(self, job_id: str, fingerprint: str, request: bytes) -> None:
        """Keep a request durably, or not at all; one with this fingerprint that is there already stays.

        Requests with other fingerprints may be there too: a process that dies before its job is in the queue leaves its
        request, and another process may be about to add a job with the same id. The queue's row says which one is run.
        """
        folder = self._jobs / job_id
        folder.mkdir(mode=0o700, exist_ok=True)
        os.utime(folder)  # an old abandoned folder must not be removed now
        fresh = folder / f"{_UNFINISHED}{secrets.token_hex(8)}"
        try:
            _write(fresh, request)
            with contextlib.suppress(FileExistsError):
                os.link(fresh, folder / _request_name(fingerprint))
        except OSError:
            fresh.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it holds another request
                folder.rmdir()
            raise
        fresh.unlink()
        _sync(folder)
        _sync(self._jobs)
        (self._expired / job_id).unlink(missing_ok=True)

    def request(self, job_id: str, fingerprint: str) -> bytes | None:
        """The request that the job with this fingerprint was accepted for."""
        kept = self._read(job_id, _request_name(fingerprint))
        return self._read(job_id, _REQUEST) if kept is None else kept

    def keep_progress(self, job_id: str, progress: Progress) -> None:
        """It need not outlast a power cut."""
        self._replace(job_id, _PROGRESS, orjson.dumps(asdict(progress)), durably=False)

    def progress(self, job_id: str) -> Progress:
        told = self._read(job_id, _PROGRESS)
        return Progress(**orjson.loads(told)) if told else Progress()

    def keep_result(self, job_id: str, result: bytes) -> None:
        self._replace(job_id, _RESULT, result, durably=True)

    def result(self, job_id: str) -> bytes | None:
        return self._read(job_id, _RESULT)

    def remove(self, job_id: str) -> None:
        """All of a job that was never accepted."""
        shutil.rmtree(self._jobs / job_id, ignore_errors=True)

    def expire(self, job_id: str) -> None:
        """Remove what there is of a job, and remember that there was one."""
        (self._expired / job_id).touch(mode=0o600)
        self.remove(job_id)

    def is_expired(self, job_id: str) -> bool:
        return (self._expired / job_id).exists()

    def forget_expired(self, *, older_than_s: float) -> None:
        """Remove the marks of jobs that expired so long ago."""
        for mark in _older(self._expired, older_than_s):
            mark.unlink(missing_ok=True)

    def ids(self, *, older_than_s: float) -> list[str]:
        """The jobs that have had files for so long, accepted or not."""
        return [path.name for path in _older(self._jobs, older_than_s)]

    def _read(self, job_id: str, name: str) -> bytes | None:
        try:
            return (self._jobs / job_id / name).read_bytes()
        except FileNotFoundError:
            return None

    def _replace(self, job_id: str, name: str, data: bytes, *, durably: bool) -> None:
        """A job that has been removed meanwhile stays removed."""
        folder = self._jobs / job_id
        fresh = folder / f"{_UNFINISHED}{name}"
        try:
            _write(fresh, data, durably=durably)
            fresh.replace(folder / name)
        except FileNotFoundError:
            return
        if durably:
            _sync(folder)


def _request_name(fingerprint: str) -> str:
    return f"request-{fingerprint}.json"


def _older(folder: Path, age_s: float) -> Iterator[Path]:
    for entry in os.scandir(folder):
        try:
            if entry.stat().st_mtime < time.time() - age_s:
                yield Path(entry.path)
        except FileNotFoundError:
            continue


def _write(path: Path, data: bytes, *, durably: bool = True) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        if durably:
            file.flush()
            os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the names in it outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
