# SPDX-License-Identifier: Apache-2.0
"""Parses `s3://bucket/prefix`, the URL of a model repository."""

import re
from dataclasses import dataclass
from typing import Self

from fastapi_triton.embedded.s3_repository.errors import S3ModelsError, is_signed, redacted

SCHEME = "s3://"
# Triton's syntax for other stores than AWS: s3://host:port/bucket/prefix, also with http:// or https:// before host.
_ENDPOINT = re.compile(
    r"(?P<scheme>https?://)?(?P<host>(?:[^/:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?)/(?P<rest>.*)", re.DOTALL
)
_WITHOUT_CREDENTIALS = (
    "{url} contains credentials, which process lists and logs would show. Remove them, and set AWS_ACCESS_KEY_ID "
    "and AWS_SECRET_ACCESS_KEY."
)
# An access point instead of a bucket. The slash after its name begins the prefix.
_ACCESS_POINT = re.compile(
    r"(?P<arn>arn:aws[a-z-]*:s3(?:-object-lambda)?:[a-z0-9-]*:\d{12}:accesspoint[:/][A-Za-z0-9.-]+"
    r"|arn:aws[a-z-]*:s3-outposts:[a-z0-9-]+:\d{12}:outpost[:/][A-Za-z0-9-]+[:/]accesspoint[:/][A-Za-z0-9-]+)"
    r"(?:/(?P<prefix>.*))?",
    re.DOTALL,
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket and the prefix of its keys."""

    bucket: str  # its name, or the ARN of an access point
    prefix: str  # empty, or ends with a slash: models/ must not match models-old/
    endpoint: str | None  # None: the environment and the AWS config file decide

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL without decoding it: `%20` in a key is three characters.

        Raises:
            S3ModelsError: it has no valid bucket name, or it contains credentials.
        """
        if is_signed(url):
            raise S3ModelsError(
                f"{redacted(url)} is a presigned URL, which is valid for one object only. Use s3://bucket/prefix, and "
                "set the credentials in the environment."
            )
        rest, endpoint = url.removeprefix(SCHEME), None
        named = _ENDPOINT.fullmatch(rest)
        if named is not None and (named["scheme"] or ":" in named["host"]):
            rest, endpoint = named["rest"], (named["scheme"] or "http://") + named["host"]
        point = _ACCESS_POINT.fullmatch(rest)
        bucket, _, prefix = (point["arn"], "/", point["prefix"] or "") if point else rest.partition("/")
        is_bucket = point is not None or _BUCKET.fullmatch(bucket) is not None
        if not url.startswith(SCHEME) or not is_bucket or "@" in (endpoint or ""):
            if "@" in url:
                raise S3ModelsError(_WITHOUT_CREDENTIALS.format(url=redacted("".join(url.split()))))
            raise S3ModelsError(f"{redacted(url)} has no valid bucket name. Use s3://bucket/prefix.")
        prefix = prefix.strip("/")
        return cls(bucket, f"{prefix}/" if prefix else "", endpoint)

    @property
    def is_access_point(self) -> bool:
        """Whether `bucket` is an access point."""
        return self.bucket.startswith("arn:")

    @property
    def arn(self) -> str:
        """The ARN of the bucket or access point, for a policy."""
        return self.bucket if self.is_access_point else f"arn:aws:s3:::{self.bucket}"

    @property
    def objects_arn(self) -> str:
        """The ARN of the objects, for a policy."""
        return f"{self.arn}{'/object' if self.is_access_point else ''}/{self.prefix}*"

    @property
    def folder_name(self) -> str:
        """The bucket's name with only the characters that are safe in a folder's name."""
        return re.sub(r"[^A-Za-z0-9._-]", "-", self.bucket)

    def url(self, key: str | None = None) -> str:
        """The URL of one key, or of the repository."""
        return f"{SCHEME}{self.bucket}/{self.prefix if key is None else key}".rstrip("/" if key is None else "")

    def __str__(self) -> str:
        return self.url()
