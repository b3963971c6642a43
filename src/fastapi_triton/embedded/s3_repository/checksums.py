# SPDX-License-Identifier: Apache-2.0
"""Compares a file with the checksum that S3 has of its object."""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from awscrt import checksums as crt

_BLOCK_BYTES = 1024 * 1024
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_MD5_OF_PARTS = re.compile(r'"?([0-9a-f]{32})-(\d+)"?')

# Computes the digest of a file.
Algorithm = Callable[[Path], bytes]


def _crc(function: Callable[[bytes, int], int], num_bytes: int) -> Algorithm:
    def digest(file: Path) -> bytes:
        value = 0
        for block in _blocks(file):
            value = function(block, value)
        return value.to_bytes(num_bytes, "big")

    return digest


def _hash(name: str) -> Algorithm:
    return lambda file: _hashed(name, _blocks(file))


def _md5_of_parts(part_bytes: int) -> Algorithm:
    """The ETag of an object that was uploaded in parts: the MD5 of the parts' MD5s."""

    def digest(file: Path) -> bytes:
        starts = range(0, file.stat().st_size, part_bytes) or [0]
        parts = [_hashed("md5", _blocks(file, start, part_bytes)) for start in starts]
        return _hashed("md5", iter(parts))

    return digest


def _hashed(name: str, blocks: Iterator[bytes]) -> bytes:
    state = hashlib.new(name, usedforsecurity=False)
    for block in blocks:
        state.update(block)
    return state.digest()


def _blocks(file: Path, start: int = 0, num_bytes: int | None = None) -> Iterator[bytes]:
    """Read a file, or a part of it, in blocks."""
    left = file.stat().st_size if num_bytes is None else num_bytes
    with file.open("rb", buffering=0) as source:
        source.seek(start)
        while block := source.read(min(_BLOCK_BYTES, left)):
            left -= len(block)
            yield block


# Fastest first. S3 itself adds CRC64NVME if the uploader sent no checksum.
_ALGORITHMS = {
    "ChecksumCRC64NVME": _crc(crt.crc64nvme, 8),
    "ChecksumCRC32C": _crc(crt.crc32c, 4),
    "ChecksumCRC32": _crc(crt.crc32, 4),
    "ChecksumSHA1": _hash("sha1"),
    "ChecksumSHA256": _hash("sha256"),
}


@dataclass(frozen=True, slots=True)
class Checksum:
    """The expected checksum of an object, and its algorithm."""

    name: str
    digest: bytes
    algorithm: Algorithm

    @classmethod
    def of(cls, response: Mapping[str, Any], *, part_bytes: Callable[[], int | None]) -> Self | None:
        """The checksum of the whole object from a response of S3; None if the response has no usable one.

        `part_bytes` requests the size of the object's parts; it is called only if needed.
        """
        whole, parts = _MD5.fullmatch(response["ETag"]), _MD5_OF_PARTS.fullmatch(response["ETag"])
        # An object uploaded in parts may have a checksum of its parts' checksums, which is of no use for the whole.
        if not parts or response.get("ChecksumType") == "FULL_OBJECT":
            for name, algorithm in _ALGORITHMS.items():
                if name in response:
                    return cls(name.removeprefix("Checksum"), base64.b64decode(response[name]), algorithm)
        if response.get("SSECustomerAlgorithm") or "kms" in response.get("ServerSideEncryption", ""):
            return None  # the ETag of an encrypted object is not an MD5
        if whole:
            return cls("MD5", bytes.fromhex(whole[1]), _hash("md5"))
        size = part_bytes() if parts else None
        if parts and size:
            return cls("MD5 of parts", bytes.fromhex(parts[1]), _md5_of_parts(size))
        return None

    def matches(self, file: Path) -> bool:
        """Whether the file has this checksum."""
        return self.algorithm(file) == self.digest
