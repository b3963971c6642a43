# SPDX-License-Identifier: Apache-2.0
"""Parsing of S3 URLs."""

import pytest

from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.location import Location


@pytest.mark.parametrize(
    ("url", "bucket", "prefix", "endpoint"),
    [
        ("s3://bucket", "bucket", "", None),
        ("s3://bucket/", "bucket", "", None),
        ("s3://bucket/models", "bucket", "models/", None),
        ("s3://bucket/a/my models/", "bucket", "a/my models/", None),
        ("s3://bucket/a%20b", "bucket", "a%20b/", None),
        ("s3://bucket/at:10", "bucket", "at:10/", None),
        ("s3://https://store:9000/bucket/models", "bucket", "models/", "https://store:9000"),
        ("s3://http://store/bucket", "bucket", "", "http://store"),
        ("s3://store:9000/bucket/models", "bucket", "models/", "http://store:9000"),
    ],
)
def test_a_url_has_a_bucket_a_prefix_and_maybe_an_endpoint(
    url: str, bucket: str, prefix: str, endpoint: str | None
) -> None:
    assert Location.parse(url) == Location(bucket, prefix, endpoint)


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///models",
        "s3:bucket/models",
        "S3://bucket",
        "s3://bu cket/m",
        "s3://https://store:9000/",
        "s3://../m",
    ],
)
def test_a_url_without_a_valid_bucket_name_is_rejected(url: str) -> None:
    with pytest.raises(S3ModelsError, match="has no valid bucket name"):
        Location.parse(url)
