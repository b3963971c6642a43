# SPDX-License-Identifier: Apache-2.0
"""Downloads files: many pieces at once, with retries; each file is checked against its checksum."""

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
FIRST_BACKOFF_S = 0.2  # not `core/backoff`: this package is alone in the Triton image
PROGRESS_LOG_INTERVAL_S = 5.0
_BLOCK_BYTES = 256 * 1024
# The statuses with which stores refuse an unknown header: Bad Request, Not Implemented.
_REFUSED = (400, 501)


class StoppedError(Exception):
    """Another piece failed; this one is not needed any more."""


class Transfer:
    """One download of a list of files. Its threads share a client, a staging folder and a stop event."""

    def __init__(self, client: S3Client, location: Location, staging: Staging) -> None:
        self._client, self._location, self._staging = client, location, staging
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._num_left: dict[str, int] = {}  # pieces, by key
        self._asks_for_checksums = True
        self.num_bytes = 0  # received in this run
        self.num_unchecked = 0  # files of which S3 has no usable checksum

    def run(self, files: Sequence[RemoteFile], *, num_threads: int) -> None:
        """Download all of them into the staging folder.

        Raises:
            S3ModelsError: one of them does not come.
            ChangedMeanwhileError: one of them is no longer what was listed.
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
        """Log the progress until all are done, or one has failed."""
        while futures:
            done, futures = wait(futures, PROGRESS_LOG_INTERVAL_S, return_when=FIRST_EXCEPTION)
            failures = [error for each in done if (error := each.exception()) is not None]
            for error in failures:
                if not isinstance(error, StoppedError):
                    raise error
            if futures:
                logger.info("%s of %s are here", format_bytes(self.num_bytes), format_bytes(num_bytes))

    def _download(self, piece: Piece) -> None:
        """Download one piece, and finish the file after its last one."""
        answer = self._get_with_retries(piece)
        with self._lock:
            self._num_left[piece.file.key] -= 1
            is_last = not self._num_left[piece.file.key]
        if is_last:
            self._finish(piece, answer)

    def _finish(self, piece: Piece, answer: dict[str, Any]) -> None:
        """Check the file against its checksum; download it again if they differ."""
        file = piece.file
        for attempt in range(MOST_ATTEMPTS):
            checksum = self._checksum(file, answer if piece.is_whole else self._head(file, IfMatch=file.etag))
            if checksum is None:
                with self._lock:
                    self.num_unchecked += 1
            if checksum is None or checksum.matches(self._staging.part(file)):
                self._staging.finish(file)
                return
            logger.warning("%s came damaged: its %s is another", self._location.url(file.key), checksum.name)
            self._staging.discard(file)
            if attempt + 1 < MOST_ATTEMPTS:
                for each in self._staging.pieces(file):
                    answer = self._get_with_retries(each)
        raise S3ModelsError(
            f"{self._location.url(file.key)} came damaged {MOST_ATTEMPTS} times (its checksum is another): "
            "upload it again, or look at what lies between here and S3."
        )

    def _get_with_retries(self, piece: Piece) -> dict[str, Any]:
        """Download a piece, again if its body breaks off or is damaged."""
        url = self._location.url(piece.file.key)
        reason = ""
        for attempt in range(MOST_ATTEMPTS):
            if attempt and self._stop.wait(FIRST_BACKOFF_S * 2**attempt):
                raise StoppedError
            try:
                answer, num_bytes = self._get(piece)
            except BROKEN_BODY as error:
                reason = str(error).rstrip(".")
            else:
                if num_bytes == piece.num_bytes:
                    self._staging.note(piece)
                    return answer
                reason = f"{num_bytes:,} of {piece.num_bytes:,} bytes came"
            logger.warning("%s did not come whole: %s", url, reason)
        raise S3ModelsError(
            f"{url} did not come whole, {MOST_ATTEMPTS} times ({reason}): "
            "look at the object, and at what lies between here and S3."
        )

    def _get(self, piece: Piece) -> tuple[dict[str, Any], int]:
        """Send one request, and write its body. Returns the response and the number of bytes received."""
        arguments = {"Bucket": self._location.bucket, "Key": piece.file.key, "IfMatch": piece.file.etag}
        with readable_errors(self._location, doing="get", key=piece.file.key):
            if piece.is_whole:
                answer = self._with_checksums(self._client.get_object, arguments)
            else:
                arguments["Range"] = f"bytes={piece.start}-{piece.stop - 1}"
                answer = self._client.get_object(**arguments)
        target = os.open(self._staging.part(piece.file), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            with contextlib.closing(answer["Body"]) as body:
                return answer, self._write(body, target, piece)
        finally:
            os.close(target)

    def _write(self, body: Any, target: int, piece: Piece) -> int:
        num_bytes = 0
        while block := body.read(_BLOCK_BYTES):
            if self._stop.is_set():
                raise StoppedError
            num_bytes += len(block)
            if num_bytes > piece.num_bytes:  # no range was understood: nothing of it may reach the next piece
                break
            _write_all(target, block, piece.start + num_bytes - len(block))
            with self._lock:
                self.num_bytes += len(block)
        return num_bytes

    def _checksum(self, file: RemoteFile, answer: dict[str, Any]) -> Checksum | None:
        # Without the ETag: stores disagree on which one a part has.
        return Checksum.of(answer, part_bytes=lambda: self._head(file, PartNumber=1).get("ContentLength"))

    def _head(self, file: RemoteFile, **arguments: Any) -> dict[str, Any]:
        with readable_errors(self._location, doing="get", key=file.key):
            arguments |= {"Bucket": self._location.bucket, "Key": file.key}
            return self._with_checksums(self._client.head_object, arguments)

    def _with_checksums(self, call: Callable[..., dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
        """Ask for an object with its checksums, or without them if the store refuses the header that asks for them."""
        if not self._asks_for_checksums:
            return call(**arguments)
        try:
            return call(**arguments, ChecksumMode="ENABLED")
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in _REFUSED:
                raise
            answer = call(**arguments)  # raises again if the header was not what it refused
        with self._lock:
            is_news, self._asks_for_checksums = self._asks_for_checksums, False
        if is_news:
            logger.info("%s refuses to send checksums; files are checked against their ETag", self._location)
        return answer


def _write_all(target: int, block: bytes, offset: int) -> None:
    written = os.pwrite(target, block, offset)
    while written < len(block):  # a disk that is nearly full
        written += os.pwrite(target, memoryview(block)[written:], offset + written)
