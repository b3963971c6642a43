# SPDX-License-Identifier: Apache-2.0
"""Turns errors of boto3 and of the disk into texts for people: what happened, and what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from botocore import exceptions as boto
from urllib3.exceptions import HTTPError

from fastapi_triton.embedded.s3_repository.errors import S3ModelsError, redacted
from fastapi_triton.embedded.s3_repository.location import Location

Operation = Literal["list", "get"]
# The permission that each operation needs, and its resource.
_NEEDS = {
    "list": "s3:ListBucket on {arn}",
    "get": "s3:GetObject on {objects_arn}, and kms:Decrypt if the bucket is encrypted with a key of its own",
}
_FORBIDDEN = ("AccessDenied", "403", "AllAccessDisabled", "AccountProblem", "KMS.AccessDeniedException")
_INVALID_CREDENTIALS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
)
_OTHER_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "301", "IllegalLocationConstraintException")
# The object was replaced or removed after it was listed.
_CHANGED = ("PreconditionFailed", "412", "NoSuchKey", "404", "InvalidRange", "416")
_DISK_FULL = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is over its quota",
    errno.EFBIG: "does not support files of this size",
}

# Errors while a body is read. The same bytes can be requested again.
BROKEN_BODY = (
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    boto.ReadTimeoutError,
    boto.ConnectionError,
    boto.FlexibleChecksumError,
    HTTPError,
)


class ChangedMeanwhileError(Exception):
    """An object has changed since it was listed. List the bucket again."""


@contextmanager
def readable_errors(location: Location, *, operation: Operation, key: str | None = None) -> Iterator[None]:
    """Turn errors of boto3 inside the block into errors for people.

    Raises:
        S3ModelsError: the download cannot continue.
        ChangedMeanwhileError: the object changed or vanished since it was listed.
    """
    try:
        yield
    except boto.ClientError as error:
        if key is not None and _code(error) in _CHANGED:
            raise ChangedMeanwhileError(key) from error
        raise S3ModelsError(_error_response_text(error, location, operation, key)) from error
    except (boto.BotoCoreError, HTTPError) as error:
        raise S3ModelsError(_client_error_text(error, location)) from error


@contextmanager
def readable_disk_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the disk inside the block into errors for people.

    Raises:
        S3ModelsError: the disk is full, or not writable.
    """
    try:
        yield
    except OSError as error:
        disk_full = _DISK_FULL.get(error.errno or 0)
        if disk_full is not None:
            raise S3ModelsError(
                f"The disk of {folder} {disk_full}. Free some space, or choose another folder with --models-cache. "
                "The next start resumes the download."
            ) from error
        raise S3ModelsError(
            f"{error.filename or folder} is not writable ({error.strerror}). Choose another folder with --models-cache."
        ) from error


def _code(error: boto.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _error_response_text(error: boto.ClientError, location: Location, operation: Operation, key: str | None) -> str:
    """A text for an error response of S3."""
    code = _code(error)
    url = location.url(key)
    if code == "NoSuchBucket":
        return f"There is no bucket {location.bucket}{_at(location)}. Check the name in {url}."
    if code in _INVALID_CREDENTIALS:
        message = error.response["Error"].get("Message", "").rstrip(".")
        return f"S3 rejects the AWS credentials for {url} ({code}: {message}). Renew them, or set AWS_PROFILE."
    if code in _FORBIDDEN:
        needs = _NEEDS[operation].format(arn=location.arn, objects_arn=location.objects_arn)
        verb = "read" if operation == "get" else "list"
        return f"The AWS credentials may not {verb} {url}. They need {needs}."
    if code in _OTHER_REGION:
        region = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
        where = f"the region {region}" if region else "another region"
        return f"The bucket {location.bucket} is in {where}. Set AWS_DEFAULT_REGION to it."
    if code == "InvalidObjectState":
        return f"{url} is archived (Glacier). Restore it, or copy it to another storage class."
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
    message = error.response.get("Error", {}).get("Message", "").rstrip(".")
    return f"The request for {url}{_at(location)} failed: {status} {code}{', ' if message else ''}{message}."


def _client_error_text(error: Exception, location: Location) -> str:
    """A text for an error without a complete response."""
    if isinstance(error, boto.NoCredentialsError):
        return (
            f"There are no AWS credentials for {location}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE, or give the machine a role."
        )
    if isinstance(error, boto.ProfileNotFound | boto.ConfigNotFound | boto.ConfigParseError):
        return f"The AWS configuration for {location} is invalid: {redacted(str(error))}."
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectionError | boto.HTTPClientError | HTTPError):
        where = getattr(error, "kwargs", {}).get("endpoint_url") or location.endpoint or "S3"
        return (
            f"{redacted(where)} cannot be reached to download {location} ({type(error).__name__}). "
            "Check the network, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION."
        )
    if "redential" in type(error).__name__ or "Token" in type(error).__name__ or "SSO" in type(error).__name__:
        return f"The AWS credentials for {location} cannot be loaded: {redacted(str(error)).rstrip('.')}."
    return f"The request for {location} failed: {redacted(str(error)).rstrip('.')}."


def _at(location: Location) -> str:
    return f" at {location.endpoint}" if location.endpoint else ""
