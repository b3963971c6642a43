# SPDX-License-Identifier: Apache-2.0
"""The error of this package, and functions that remove secrets from the URLs in it."""

import re

# Greedy, since an @ in a password is often not encoded.
_CREDENTIALS = re.compile(r"(\w://)\S*@")
_QUERY = re.compile(r"(\w://[^\s?]*)\?\S+")
# A signature in the query (of either version) makes the URL a credential.
_SIGNED = re.compile(r"[?&](X-Amz-Signature|Signature|AWSAccessKeyId)=", re.IGNORECASE)


class S3ModelsError(Exception):
    """The models cannot be downloaded. The text says why, and what to do."""


def redacted(text: str) -> str:
    """Remove user names, passwords and queries from a URL, or from the URLs in a text."""
    return _QUERY.sub(r"\1?***", _CREDENTIALS.sub(r"\1***@", text))


def is_signed(url: str) -> bool:
    """Whether the URL is presigned."""
    return _SIGNED.search(url) is not None
