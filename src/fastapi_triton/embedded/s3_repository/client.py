# SPDX-License-Identifier: Apache-2.0
"""Opens a boto3 client that finds credentials, region and endpoint as other AWS programs do."""

import os
from typing import Any, Protocol

import boto3
from botocore.config import Config

from fastapi_triton.embedded.s3_repository.error_mapping import readable_errors
from fastapi_triton.embedded.s3_repository.errors import S3ModelsError, redacted
from fastapi_triton.embedded.s3_repository.location import Location

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
# Attempts per request, with boto3's own backoff. They also cover throttling (503 SlowDown).
MOST_ATTEMPTS = 4


class S3Client(Protocol):
    """The part of a boto3 client that is used here."""

    def get_paginator(self, operation_name: str) -> Any: ...
    def get_object(self, **arguments: Any) -> dict[str, Any]: ...
    def head_object(self, **arguments: Any) -> dict[str, Any]: ...


def open_client(location: Location, *, num_connections: int) -> S3Client:
    """Open a client for `num_connections` threads, without sending a request.

    Raises:
        S3ModelsError: the AWS configuration is invalid.
    """
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=num_connections,
        retries={"mode": "standard", "total_max_attempts": MOST_ATTEMPTS},
        # `transfer` compares whole files with their checksums; boto3 would check only some responses.
        response_checksum_validation="when_required",
        # Nothing is uploaded, and some stores reject checksum headers.
        request_checksum_calculation="when_required",
        user_agent_extra="fastapi-triton",
    )
    with readable_errors(location, operation="list"):
        # boto3 ignores AWS_REGION, which other SDKs and ECS use.
        region = None if os.environ.get("AWS_DEFAULT_REGION") else os.environ.get("AWS_REGION")
        session = boto3.session.Session(region_name=region)
        try:
            client: S3Client = session.client("s3", endpoint_url=location.endpoint, config=config)
        except ValueError as error:  # an invalid endpoint
            raise S3ModelsError(f"The AWS configuration for {location} is invalid: {redacted(str(error))}.") from None
        return client
