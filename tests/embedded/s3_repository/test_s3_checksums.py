# SPDX-License-Identifier: Apache-2.0
"""Checksums of S3, with the published check values for `123456789`."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from fastapi_triton.embedded.s3_repository.checksums import Checksum

DATA = b"123456789"
CHECKS = {
    "ChecksumCRC32": "cbf43926",
    "ChecksumCRC32C": "e3069283",
    "ChecksumCRC64NVME": "ae8b14860a799888",
    "ChecksumSHA1": hashlib.sha1(DATA, usedforsecurity=False).hexdigest(),
    "ChecksumSHA256": hashlib.sha256(DATA).hexdigest(),
}


def no_parts() -> int | None:
    pytest.fail("the size of parts is not needed here")


def checksum_of(response: dict[str, Any], part_bytes: int | None = None) -> Checksum | None:
    return Checksum.of(response, part_bytes=no_parts if part_bytes is None else lambda: part_bytes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


def etag(*parts: bytes) -> str:
    digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
    return f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"'


@pytest.mark.parametrize("name", CHECKS)
def test_a_file_that_differs_in_one_bit_does_not_match(name: str, file: Path) -> None:
    value = base64.b64encode(bytes.fromhex(CHECKS[name])).decode()
    checksum = checksum_of({"ETag": '"no md5"', name: value})
    assert checksum is not None
    assert checksum.matches(file)
    file.write_bytes(b"123456788")
    assert not checksum.matches(file)


def test_a_file_uploaded_in_parts_matches_its_etag_for_any_size_of_parts(file: Path) -> None:
    large = DATA * 300_000  # more than one block
    file.write_bytes(large)
    for part_bytes in (700_001, 1024 * 1024, len(large)):
        parts = [large[start : start + part_bytes] for start in range(0, len(large), part_bytes)]
        checksum = checksum_of({"ETag": etag(*parts)}, part_bytes)
        assert checksum is not None
        assert checksum.matches(file), part_bytes
    checksum = checksum_of({"ETag": etag(large[:900_000], large[900_000:])}, 900_001)
    assert checksum is not None
    assert not checksum.matches(file)


def test_a_checksum_of_parts_is_not_used_for_the_whole_file(file: Path) -> None:
    crc = base64.b64encode(bytes.fromhex(CHECKS["ChecksumCRC32"])).decode()
    response = {"ETag": etag(DATA[:5], DATA[5:]), "ChecksumCRC32": crc}
    by_parts = checksum_of({**response, "ChecksumType": "COMPOSITE"}, 5)
    whole = checksum_of({**response, "ChecksumType": "FULL_OBJECT"})
    assert by_parts is not None
    assert whole is not None
    assert (by_parts.name, whole.name) == ("MD5 of parts", "CRC32")
    assert by_parts.matches(file)
    assert whole.matches(file)


@pytest.mark.parametrize(
    "encryption",
    [{"ServerSideEncryption": "aws:kms"}, {"ServerSideEncryption": "aws:kms:dsse"}, {"SSECustomerAlgorithm": "AES256"}],
)
def test_the_etag_of_an_encrypted_object_is_not_used_as_md5(encryption: dict[str, str]) -> None:
    assert checksum_of({"ETag": f'"{"0" * 32}"', **encryption}) is None
    assert checksum_of({"ETag": '"of another kind"'}) is None
