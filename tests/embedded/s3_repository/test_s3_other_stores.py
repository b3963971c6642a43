# SPDX-License-Identifier: Apache-2.0
"""Other stores than AWS, IPv6 addresses, access points, and stores without checksums."""

import logging
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from fastapi_triton.embedded.s3_repository.client import open_client
from fastapi_triton.embedded.s3_repository.error_mapping import readable_errors
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.fetch import fetch
from fastapi_triton.embedded.s3_repository.location import Location
from support.s3_store import Store

POINT = "arn:aws:s3:eu-central-1:123456789012:accesspoint/my-point"
OUTPOST = "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01ac5d28a6a232904/accesspoint/my-point"
LAMBDA = "arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/my-point"
MULTI_REGION = "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap"


@pytest.mark.parametrize(
    ("url", "bucket", "prefix", "endpoint"),
    [
        ("s3://http://[::1]:9000/bucket", "bucket", "", "http://[::1]:9000"),
        ("s3://https://[2001:db8::7]/bucket/models", "bucket", "models/", "https://[2001:db8::7]"),
        ("s3://[::1]:9000/bucket/m", "bucket", "m/", "http://[::1]:9000"),
        ("s3://[::ffff:127.0.0.1]:9000/bucket/m", "bucket", "m/", "http://[::ffff:127.0.0.1]:9000"),
        (f"s3://{POINT}", POINT, "", None),
        (f"s3://{POINT}/", POINT, "", None),
        (f"s3://{POINT}/models/v 2/", POINT, "models/v 2/", None),
        (f"s3://{POINT.replace('accesspoint/', 'accesspoint:')}/m", POINT.replace("t/my", "t:my"), "m/", None),
        (f"s3://{POINT.replace('aws:', 'aws-cn:')}/m", POINT.replace("aws:", "aws-cn:"), "m/", None),
        (f"s3://{OUTPOST}/models", OUTPOST, "models/", None),
        (f"s3://{LAMBDA}/models", LAMBDA, "models/", None),
        (f"s3://{MULTI_REGION}/models", MULTI_REGION, "models/", None),
        (f"s3://https://store:9000/{POINT}/models", POINT, "models/", "https://store:9000"),
    ],
)
def test_a_url_may_have_an_ipv6_address_or_an_access_point(
    url: str, bucket: str, prefix: str, endpoint: str | None
) -> None:
    location = Location.parse(url)
    assert location == Location(bucket, prefix, endpoint)
    assert "/" not in location.folder_name
    assert ":" not in location.folder_name


@pytest.mark.parametrize(
    "url",
    [
        "s3://[::1]:9000",
        "s3://http://[::1/b/m",
        "s3://http://::1:9000/bucket",
        "s3://arn:aws:s3:eu-central-1:123456789012:accesspoint/",
        "s3://arn:aws:s3:::my-bucket/models",
        "s3://arn:aws:s3:eu-central-1:1234:accesspoint/my-point/m",
        "s3://arn:aws:sqs:eu-central-1:123456789012:accesspoint/my-point",
    ],
)
def test_an_invalid_ipv6_address_or_access_point_is_rejected(url: str) -> None:
    with pytest.raises(S3ModelsError, match="has no valid bucket name"):
        Location.parse(url)


@pytest.mark.parametrize(
    ("arn", "host_url"),
    [
        (POINT, "https://my-point-123456789012.s3-accesspoint.eu-central-1.amazonaws.com/"),
        (OUTPOST, "https://my-point-123456789012.op-01ac5d28a6a232904.s3-outposts.us-west-2.amazonaws.com/"),
        (LAMBDA, "https://my-point-123456789012.s3-object-lambda.us-east-1.amazonaws.com/"),
        (MULTI_REGION, "https://mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com/"),
    ],
)
def test_requests_for_an_access_point_go_to_its_host(
    store: Store, monkeypatch: pytest.MonkeyPatch, arn: str, host_url: str
) -> None:
    del store  # its environment has credentials
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    location = Location.parse(f"s3://{arn}/models")
    client: Any = open_client(location, num_connections=1)
    urls: list[str] = []

    def deny(request: Any, **_: object) -> AWSResponse:
        urls.append(request.url)
        body: Any = type("Raw", (), {"stream": lambda *_: iter([b"<Error><Code>AccessDenied</Code></Error>"])})()
        return AWSResponse(request.url, 403, {}, body)

    client.meta.events.register("before-send.s3.*", deny)
    with pytest.raises(S3ModelsError) as denied, readable_errors(location, operation="list"):
        client.list_objects_v2(Bucket=location.bucket, Prefix=location.prefix)
    assert urls[0].startswith(host_url)
    assert f"s3:ListBucket on {arn}" in str(denied.value)


@pytest.mark.parametrize("status", ["501 Not Implemented", "400 Bad Request"])
def test_models_are_downloaded_from_a_store_that_rejects_checksum_headers(
    store: Store, cache: Path, caplog: pytest.LogCaptureFixture, status: str
) -> None:
    caplog.set_level(logging.INFO)
    store.put("models/m/config.pbtxt", "")
    for number in range(20):
        store.put(f"models/m/1/{number}", f"weights {number}")
    store.put("models/m/1/large", b"x" * (9 * 1024 * 1024))  # in pieces
    store.reject_checksum_headers(status)
    with fetch("s3://my-bucket/models", cache=cache) as snapshot:
        assert (snapshot.models / "m/1/7").read_text() == "weights 7"
        assert (snapshot.models / "m/1/large").stat().st_size == 9 * 1024 * 1024
    assert sum("rejects requests for checksums" in each.getMessage() for each in caplog.records) == 1


def test_damage_is_detected_at_a_store_that_rejects_checksum_headers(store: Store, cache: Path) -> None:
    store.put("models/m/config.pbtxt", "")
    store.put("models/m/1/weights", b"123456789")
    store.reject_checksum_headers("501 Not Implemented")
    store.damage("GET /my-bucket/models/m/1/weights", times=2)  # the rejected request, and the successful one
    with fetch("s3://my-bucket/models", cache=cache) as snapshot:
        assert (snapshot.models / "m/1/weights").read_bytes() == b"123456789"


def test_another_400_is_not_taken_for_a_rejected_checksum_header(store: Store, cache: Path) -> None:
    store.put("models/m/config.pbtxt", "x")
    store.fail("GET /my-bucket/models/m/config.pbtxt", "400 Bad Request", "ExpiredToken")
    with pytest.raises(S3ModelsError, match="S3 rejects the AWS credentials"):
        fetch("s3://my-bucket/models", cache=cache)
