# SPDX-License-Identifier: Apache-2.0
"""Turns the errors of boto3 and of the disk into one sentence for a person that says what is wrong."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from botocore import exceptions as boto
from urllib3.exceptions import HTTPError

from fastapi_triton.embedded.s3_repository.errors import S3ModelsError, redacted
from fastapi_triton.embedded.s3_repository.location import Location

Doing = Literal["list", "get"]
# The permission that each of our calls needs, and on what.
_NEEDS = {
    "list": "s3:ListBucket on {arn}",
    "get": "s3:GetObject on {objects_arn}, and kms:Decrypt if the bucket is encrypted with a key of its own",
}
_FORBIDDEN = ("AccessDenied", "403", "AllAccessDisabled", "AccountProblem", "KMS.AccessDeniedException")
_REFUSED_KEYS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
)
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "301", "IllegalLocationConstraintException")
# Another object under that key since it was listed, or none.
_CHANGED = ("PreconditionFailed", "412", "NoSuchKey", "404", "InvalidRange", "416")
_NO_ROOM = {errno.ENOSPC: "is full", errno.EDQUOT: "is over its quota", errno.EFBIG: "takes no file that large"}

# What a body may raise in its middle; the same bytes may be asked for again.
BROKEN_BODY = (
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    boto.ReadTimeoutError,
    boto.ConnectionError,
    boto.FlexibleChecksumError,
    HTTPError,
)


class ChangedMeanwhileError(Exception):
    """An object has changed since it was listed: list again."""


@contextmanager
def readable_errors(location: Location, *, doing: Doing, key: str | None = None) -> Iterator[None]:
    """Turn every error of boto3 inside the block into a sentence.

    Raises:
        S3ModelsError: the fetch cannot go on.
        ChangedMeanwhileError: the object changed since it was listed, or went.
    """
    try:
        yield
    except boto.ClientError as error:
        if key is not None and _code(error) in _CHANGED:
            raise ChangedMeanwhileError(key) from error
        raise S3ModelsError(_refusal(error, location, doing, key)) from error
    except (boto.BotoCoreError, HTTPError) as error:
        raise S3ModelsError(_trouble(error, location)) from error


@contextmanager
def readable_disk_errors(folder: Path) -> Iterator[None]:
    """Turn every error of the disk inside the block into a sentence.

    Raises:
        S3ModelsError: it is full, or not writable.
    """
    try:
        yield
    except OSError as error:
        no_room = _NO_ROOM.get(error.errno or 0)
        if no_room is not None:
            raise S3ModelsError(
                f"The disk below {folder} {no_room}: make room, or name another folder with --models-cache; "
                "what has come stays, and the next start goes on from there."
            ) from error
        raise S3ModelsError(
            f"{error.filename or folder} cannot be written ({error.strerror}): name another folder with --models-cache."
        ) from error


def _code(error: boto.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _refusal(error: boto.ClientError, location: Location, doing: Doing, key: str | None) -> str:
    """A sentence for what S3 answered."""
    code = _code(error)
    url = location.url(key)
    if code == "NoSuchBucket":
        return f"There is no bucket {location.bucket} for {url}{_at(location)}: look for a slip in its name."
    if code in _REFUSED_KEYS:
        message = error.response["Error"].get("Message", "").rstrip(".")
        return f"The AWS credentials in use are refused for {url} ({code}: {message}): renew them, or set AWS_PROFILE."
    if code in _FORBIDDEN:
        needs = _NEEDS[doing].format(arn=location.arn, objects_arn=location.objects_arn)
        done = "read" if doing == "get" else "listed"
        return f"{url} may not be {done} with these AWS credentials: they need {needs}."
    if code in _ELSEWHERE:
        region = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
        where = f"in the region {region}" if region else "in another region"
        return f"The bucket {location.bucket} is {where}: set AWS_DEFAULT_REGION to it."
    if code == "InvalidObjectState":
        return f"{url} is in the archive (Glacier): restore it, or copy it to another storage class."
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
    message = error.response.get("Error", {}).get("Message", "").rstrip(".")
    return f"S3 does not give {url}{_at(location)}: {status} {code}{', ' if message else ''}{message}."


def _trouble(error: Exception, location: Location) -> str:
    """A sentence for what happened before there was an answer, or in its middle."""
    if isinstance(error, boto.NoCredentialsError):
        return (
            f"There are no AWS credentials for {location}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE, or give the machine a role."
        )
    if isinstance(error, boto.ProfileNotFound | boto.ConfigNotFound | boto.ConfigParseError):
        return f"The AWS configuration cannot be used for {location}: {redacted(str(error))}."
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectionError | boto.HTTPClientError | HTTPError):
        where = getattr(error, "kwargs", {}).get("endpoint_url") or location.endpoint or "S3"
        return (
            f"{redacted(where)} cannot be reached for {location} ({type(error).__name__}): "
            "look at the network, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION."
        )
    if "redential" in type(error).__name__ or "Token" in type(error).__name__ or "SSO" in type(error).__name__:
        return f"The AWS credentials for {location} cannot be had: {redacted(str(error)).rstrip('.')}."
    return f"S3 cannot be asked for {location}: {redacted(str(error)).rstrip('.')}."


def _at(location: Location) -> str:
    return f" at {location.endpoint}" if location.endpoint else ""
