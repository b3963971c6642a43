# SPDX-License-Identifier: Apache-2.0
"""`s3://bucket/prefix`: where a model repository is."""

import re
from dataclasses import dataclass
from typing import Self

from fastapi_triton.embedded.s3_repository.errors import S3ModelsError, is_signed, redacted

SCHEME = "s3://"
# Triton's own way to name a store that is not AWS: s3://host:port/bucket/prefix, or with http:// or https:// before it.
_ENDPOINT = re.compile(
    r"(?P<scheme>https?://)?(?P<host>(?:[^/:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?)/(?P<rest>.*)", re.DOTALL
)
_WITHOUT_CREDENTIALS = (
    "{url} holds credentials, which process lists and logs would show: remove them, and set AWS_ACCESS_KEY_ID "
    "and AWS_SECRET_ACCESS_KEY."
)
# An access point instead of a bucket. Its name ends where the next slash begins the prefix.
_ACCESS_POINT = re.compile(
    r"(?P<arn>arn:aws[a-z-]*:s3(?:-object-lambda)?:[a-z0-9-]*:\d{12}:accesspoint[:/][A-Za-z0-9.-]+"
    r"|arn:aws[a-z-]*:s3-outposts:[a-z0-9-]+:\d{12}:outpost[:/][A-Za-z0-9-]+[:/]accesspoint[:/][A-Za-z0-9-]+)"
    r"(?:/(?P<prefix>.*))?",
    re.DOTALL,
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket and what the keys in it begin with."""

    bucket: str  # its name, or the ARN of an access point
    prefix: str  # empty, or ends with a slash, so that models/ does not take models-old/ too
    endpoint: str | None  # None: the environment and the AWS config file decide

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL. Nothing in it is decoded: `%20` in a key is three characters.

        Raises:
            S3ModelsError: it names no bucket.
        """
        if is_signed(url):
            raise S3ModelsError(
                f"{redacted(url)} is a presigned URL, which opens one object only: write s3://bucket/prefix, and give "
                "credentials by the environment."
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
            raise S3ModelsError(f"{redacted(url)} names no bucket: write s3://bucket/prefix.")
        prefix = prefix.strip("/")
        return cls(bucket, f"{prefix}/" if prefix else "", endpoint)

    @property
    def is_access_point(self) -> bool:
        """Whether an access point is named instead of a bucket."""
        return self.bucket.startswith("arn:")

    @property
    def arn(self) -> str:
        """The ARN of the bucket or access point in a policy."""
        return self.bucket if self.is_access_point else f"arn:aws:s3:::{self.bucket}"

    @property
    def objects_arn(self) -> str:
        """The ARN of the objects in a policy."""
        return f"{self.arn}{'/object' if self.is_access_point else ''}/{self.prefix}*"

    @property
    def folder_name(self) -> str:
        """The bucket's name as the name of a folder."""
        return re.sub(r"[^A-Za-z0-9._-]", "-", self.bucket)

    def url(self, key: str | None = None) -> str:
        """As people write it; of one key, or of the repository itself."""
        return f"{SCHEME}{self.bucket}/{self.prefix if key is None else key}".rstrip("/" if key is None else "")

    def __str__(self) -> str:
        return self.url()
