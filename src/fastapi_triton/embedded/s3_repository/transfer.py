# SPDX-License-Identifier: Apache-2.0
"""Downloads files in parallel pieces, with retries, and compares each file with its checksum."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

from botocore.exceptions import ClientError

from fastapi_triton.embedded.s3_repository.checksums import Checksum
from fastapi_triton.embedded.s3_repository.client import S3Client
from fastapi_triton.embedded.s3_repository.error_mapping import BROKEN_BODY, readable_errors
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.inventory import RemoteFile, format_bytes
from fastapi_triton.embedded.s3_repository.location import Location
from fastapi_triton.embedded.s3_repository.staging import Piece, Staging

logger = logging.getLogger(__name__)

MOST_ATTEMPTS = 4
FIRST_BACKOFF_S = 0.2  # not `core/backoff`, which the Triton image does not have
PROGRESS_LOG_INTERVAL_S = 5.0
_BLOCK_BYTES = 256 * 1024
# Statuses of stores that reject an unknown header: Bad Request, Not Implemented.
_HEADER_REJECTED = (400, 501)


class StoppedError(Exception):
    """Another piece failed, so this one is no longer needed."""


class Transfer:
    """Downloads a list of files. Its threads share a client, a staging folder and a stop event."""

    def __init__(self, client: S3Client, location: Location, staging: Staging) -> None:
        self._client, self._location, self._staging = client, location, staging
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._num_left: dict[str, int] = {}  # pieces, by key
        self._requests_checksums = True
        self.num_bytes = 0  # received in this run
        self.num_unchecked = 0  # files without a usable checksum in S3

    def run(self, files: Sequence[RemoteFile], *, num_threads: int) -> None:
        """Download the files into the staging folder.

        Raises:
            S3ModelsError: a file cannot be downloaded.
            ChangedMeanwhileError: an object has changed since it was listed.
        """
        missing = {file.key: self._staging.missing(file) for file in files}
        self._num_left = {key: len(pieces) for key, pieces in missing.items()}
        todo = [piece for pieces in missing.values() for piece in pieces]
        with ThreadPoolExecutor(num_threads, thread_name_prefix="s3-models") as pool:
            futures = {pool.submit(self._download, piece) for piece in todo}
            try:
                self._watch(futures, sum(piece.num_bytes for piece in todo))
            finally:
                self._stop.set()
                pool.shutdown(cancel_futures=True)

    def _watch(self, futures: set[Future[None]], num_bytes: int) -> None:
        """Log the progress until all pieces are downloaded, or one has failed."""
        while futures:
            done, futures = wait(futures, PROGRESS_LOG_INTERVAL_S, return_when=FIRST_EXCEPTION)
            failures = [error for each in done if (error := each.exception()) is not None]
            for error in failures:
                if not isinstance(error, StoppedError):
                    raise error
            if futures:
                logger.info("downloaded %s of %s", format_bytes(self.num_bytes), format_bytes(num_bytes))

    def _download(self, piece: Piece) -> None:
        """Download one piece, and finish the file after its last one."""
        response = self._get_with_retries(piece)
        with self._lock:
            self._num_left[piece.file.key] -= 1
            is_last = not self._num_left[piece.file.key]
        if is_last:
            self._finish(piece, response)

    def _finish(self, piece: Piece, response: dict[str, Any]) -> None:
        """Check the file against its checksum; download it again if they differ."""
        file = piece.file
        for attempt in range(MOST_ATTEMPTS):
            checksum = self._checksum(file, response if piece.is_whole else self._head(file, IfMatch=file.etag))
            if checksum is None:
                with self._lock:
                    self.num_unchecked += 1
            if checksum is None or checksum.matches(self._staging.part(file)):
                self._staging.finish(file)
                return
            logger.warning("%s arrived damaged: its %s is wrong", self._location.url(file.key), checksum.name)
            self._staging.discard(file)
            if attempt + 1 < MOST_ATTEMPTS:
                for each in self._staging.pieces(file):
                    response = self._get_with_retries(each)
        raise S3ModelsError(
            f"{self._location.url(file.key)} arrived damaged {MOST_ATTEMPTS} times: its checksum is wrong. "
            "Upload it again, or check the proxies between this machine and S3."
        )

    def _get_with_retries(self, piece: Piece) -> dict[str, Any]:
        """Download a piece; again if its body ends early or is damaged."""
        url = self._location.url(piece.file.key)
        reason = ""
        for attempt in range(MOST_ATTEMPTS):
            if attempt and self._stop.wait(FIRST_BACKOFF_S * 2**attempt):
                raise StoppedError
            try:
                response, num_bytes = self._get(piece)
            except BROKEN_BODY as error:
                reason = str(error).rstrip(".")
            else:
                if num_bytes == piece.num_bytes:
                    self._staging.record(piece)
                    return response
                reason = f"received {num_bytes:,} of {piece.num_bytes:,} bytes"
            logger.warning("%s arrived incomplete: %s", url, reason)
        raise S3ModelsError(
            f"{url} arrived incomplete {MOST_ATTEMPTS} times ({reason}). "
            "Check the object, and the proxies between this machine and S3."
        )

    def _get(self, piece: Piece) -> tuple[dict[str, Any], int]:
        """Send one request and write the body. Returns the response and the number of bytes received."""
        arguments = {"Bucket": self._location.bucket, "Key": piece.file.key, "IfMatch": piece.file.etag}
        with readable_errors(self._location, operation="get", key=piece.file.key):
            if piece.is_whole:
                response = self._with_checksums(self._client.get_object, arguments)
            else:
                arguments["Range"] = f"bytes={piece.start}-{piece.stop - 1}"
                response = self._client.get_object(**arguments)
        target = os.open(self._staging.part(piece.file), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            with contextlib.closing(response["Body"]) as body:
                return response, self._write(body, target, piece)
        finally:
            os.close(target)

    def _write(self, body: Any, target: int, piece: Piece) -> int:
        num_bytes = 0
        while block := body.read(_BLOCK_BYTES):
            if self._stop.is_set():
                raise StoppedError
            num_bytes += len(block)
            if num_bytes > piece.num_bytes:  # the store ignored the range: do not overwrite the next piece
                break
            _write_all(target, block, piece.start + num_bytes - len(block))
            with self._lock:
                self.num_bytes += len(block)
        return num_bytes

    def _checksum(self, file: RemoteFile, response: dict[str, Any]) -> Checksum | None:
        # Without IfMatch: stores differ in the ETag of a part.
        return Checksum.of(response, part_bytes=lambda: self._head(file, PartNumber=1).get("ContentLength"))

    def _head(self, file: RemoteFile, **arguments: Any) -> dict[str, Any]:
        with readable_errors(self._location, operation="get", key=file.key):
            arguments |= {"Bucket": self._location.bucket, "Key": file.key}
            return self._with_checksums(self._client.head_object, arguments)

    def _with_checksums(self, call: Callable[..., dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
        """Request an object with its checksums, or without them if the store rejects that header."""
        if not self._requests_checksums:
            return call(**arguments)
        try:
            return call(**arguments, ChecksumMode="ENABLED")
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in _HEADER_REJECTED:
                raise
            response = call(**arguments)  # raises again if the header was not the cause
        with self._lock:
            is_first, self._requests_checksums = self._requests_checksums, False
        if is_first:
            logger.info("%s rejects requests for checksums; comparing files with their ETags instead", self._location)
        return response


def _write_all(target: int, block: bytes, offset: int) -> None:
    written = os.pwrite(target, block, offset)
    while written < len(block):  # a short write, when the disk is nearly full
        written += os.pwrite(target, memoryview(block)[written:], offset + written)
