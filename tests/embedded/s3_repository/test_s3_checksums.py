# SPDX-License-Identifier: Apache-2.0
"""What S3 promises of an object's bytes, by the values that the field's own tables have for `123456789`."""

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
    pytest.fail("nobody asks for parts here")


def promised(answer: dict[str, Any], part_bytes: int | None = None) -> Checksum | None:
    return Checksum.of(answer, part_bytes=no_parts if part_bytes is None else lambda: part_bytes)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


def etag(*parts: bytes) -> str:
    digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
    return f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"'


@pytest.mark.parametrize("name", CHECKS)
def test_a_checksum_is_held_bit_by_bit(name: str, file: Path) -> None:
    value = base64.b64encode(bytes.fromhex(CHECKS[name])).decode()
    promise = promised({"ETag": '"no md5"', name: value})
    assert promise is not None
    assert promise.matches(file)
    file.write_bytes(b"123456788")
    assert not promise.matches(file)


def test_an_upload_in_parts_is_held_by_its_etag_wherever_the_parts_end(file: Path) -> None:
    large = DATA * 300_000  # more than a block is read at once
    file.write_bytes(large)
    for part_bytes in (700_001, 1024 * 1024, len(large)):
        parts = [large[start : start + part_bytes] for start in range(0, len(large), part_bytes)]
        promise = promised({"ETag": etag(*parts)}, part_bytes)
        assert promise is not None
        assert promise.matches(file), part_bytes
    promise = promised({"ETag": etag(large[:900_000], large[900_000:])}, 900_001)
    assert promise is not None
    assert not promise.matches(file)


def test_a_sum_over_parts_is_not_taken_for_one_of_the_whole(file: Path) -> None:
    crc = base64.b64encode(bytes.fromhex(CHECKS["ChecksumCRC32"])).decode()
    answer = {"ETag": etag(DATA[:5], DATA[5:]), "ChecksumCRC32": crc}
    by_parts = promised({**answer, "ChecksumType": "COMPOSITE"}, 5)
    whole = promised({**answer, "ChecksumType": "FULL_OBJECT"})
    assert by_parts is not None
    assert whole is not None
    assert (by_parts.name, whole.name) == ("MD5 of parts", "CRC32")
    assert by_parts.matches(file)
    assert whole.matches(file)


@pytest.mark.parametrize(
    "encryption",
    [{"ServerSideEncryption": "aws:kms"}, {"ServerSideEncryption": "aws:kms:dsse"}, {"SSECustomerAlgorithm": "AES256"}],
)
def test_the_etag_of_an_encrypted_object_is_no_md5(encryption: dict[str, str]) -> None:
    assert promised({"ETag": f'"{"0" * 32}"', **encryption}) is None
    assert promised({"ETag": '"of another kind"'}) is None
