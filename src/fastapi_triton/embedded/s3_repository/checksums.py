# SPDX-License-Identifier: Apache-2.0
"""The checksum that S3 has of an object, compared with that of a file."""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from awscrt import checksums as crt

_BLOCK_BYTES = 1024 * 1024
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_MD5_OF_PARTS = re.compile(r'"?([0-9a-f]{32})-(\d+)"?')


class Digest(Protocol):
    """The part of hashlib's objects that is used here."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class Crc:
    """A CRC with the interface of a hashlib object."""

    def __init__(self, function: Callable[[bytes, int], int], num_bytes: int) -> None:
        self._function, self._num_bytes, self._value = function, num_bytes, 0

    def update(self, data: bytes) -> None:
        """Add data."""
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        """The value, in S3's byte order."""
        return self._value.to_bytes(self._num_bytes, "big")


class Md5OfParts:
    """The ETag of an object that was uploaded in parts: the MD5 of the parts' MD5s."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes, self._room, self._parts = part_bytes, part_bytes, bytearray()
        self._part = _md5()

    def update(self, data: bytes) -> None:
        """Add data, which may span several parts."""
        view = memoryview(data)
        while view:
            if not self._room:
                self._end_part()
            self._part.update(view[: self._room])
            taken = min(self._room, len(view))
            self._room, view = self._room - taken, view[taken:]

    def digest(self) -> bytes:
        """Of all parts."""
        digest: bytes = _md5(self._parts + self._part.digest()).digest()
        return digest

    def _end_part(self) -> None:
        self._parts += self._part.digest()
        self._part, self._room = _md5(), self._part_bytes


def _md5(data: bytes | bytearray = b"") -> Any:
    return hashlib.md5(data, usedforsecurity=False)


# Fastest first. CRC64NVME is what S3 itself adds where the uploader sent none.
_ALGORITHMS: dict[str, Callable[[], Digest]] = {
    "ChecksumCRC64NVME": lambda: Crc(crt.crc64nvme, 8),
    "ChecksumCRC32C": lambda: Crc(crt.crc32c, 4),
    "ChecksumCRC32": lambda: Crc(crt.crc32, 4),
    "ChecksumSHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "ChecksumSHA256": hashlib.sha256,
}


@dataclass(frozen=True, slots=True)
class Checksum:
    """The expected checksum of an object, and its algorithm."""

    name: str
    digest: bytes
    start: Callable[[], Digest]

    @classmethod
    def of(cls, answer: Mapping[str, Any], *, part_bytes: Callable[[], int | None]) -> Self | None:
        """The checksum of the whole object in a response of S3; None where the response has none that can be used.

        `part_bytes` asks for the size of the object's parts; it is called only where that is needed.
        """
        whole, parts = _MD5.fullmatch(answer["ETag"]), _MD5_OF_PARTS.fullmatch(answer["ETag"])
        # An object uploaded in parts may have a checksum of its parts' checksums, which cannot be used here.
        if not parts or answer.get("ChecksumType") == "FULL_OBJECT":
            for name, start in _ALGORITHMS.items():
                if name in answer:
                    return cls(name.removeprefix("Checksum"), base64.b64decode(answer[name]), start)
        if answer.get("SSECustomerAlgorithm") or "kms" in answer.get("ServerSideEncryption", ""):
            return None  # an encrypted object's ETag is no MD5
        if whole:
            return cls("MD5", bytes.fromhex(whole[1]), _md5)
        size = part_bytes() if parts else None
        if parts and size:
            return cls("MD5 of parts", bytes.fromhex(parts[1]), lambda: Md5OfParts(size))
        return None

    def matches(self, file: Path) -> bool:
        """Read the file and compare."""
        digest = self.start()
        with file.open("rb", buffering=0) as source:
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.digest() == self.digest
