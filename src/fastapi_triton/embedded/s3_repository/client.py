# SPDX-License-Identifier: Apache-2.0
"""A boto3 client that finds credentials, region and endpoint as every AWS program does."""

import os
from typing import Any, Protocol

import boto3
from botocore.config import Config

from fastapi_triton.embedded.s3_repository.error_mapping import readable_errors
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError, redacted
from fastapi_triton.embedded.s3_repository.location import Location

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
# Of one request, with boto3's own back-off in between; throttling (503 SlowDown) is met so.
MOST_ATTEMPTS = 4


class S3Client(Protocol):
    """The part of a boto3 client that is used here."""

    def get_paginator(self, operation_name: str) -> Any: ...
    def get_object(self, **arguments: Any) -> dict[str, Any]: ...
    def head_object(self, **arguments: Any) -> dict[str, Any]: ...


def open_client(location: Location, *, num_connections: int) -> S3Client:
    """A client for so many threads; nothing is asked yet.

    Raises:
        S3ModelsError: the AWS configuration cannot be used.
    """
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=num_connections,
        retries={"mode": "standard", "total_max_attempts": MOST_ATTEMPTS},
        # Whole files are held against their checksums once they are here: boto3 would look at some answers only.
        response_checksum_validation="when_required",
        # Nothing is uploaded, and some stores refuse the headers of checksums.
        request_checksum_calculation="when_required",
        user_agent_extra="fastapi-triton",
    )
    with readable_errors(location, doing="list"):
        # boto3 alone does not know AWS_REGION, which the other SDKs and ECS do.
        region = None if os.environ.get("AWS_DEFAULT_REGION") else os.environ.get("AWS_REGION")
        session = boto3.session.Session(region_name=region)
        try:
            client: S3Client = session.client("s3", endpoint_url=location.endpoint, config=config)
        except ValueError as error:  # of an endpoint
            raise S3ModelsError(
                f"The AWS configuration cannot be used for {location}: {redacted(str(error))}."
            ) from None
        return client
