# SPDX-License-Identifier: Apache-2.0
"""The one error of this package, and the removal of secrets from the URLs that it shows."""

import re

# Greedy, since an @ in a password is often not encoded.
_CREDENTIALS = re.compile(r"(\w://)\S*@")
_QUERY = re.compile(r"(\w://[^\s?]*)\?\S+")
# A signature of either version in the query, which makes the URL a credential.
_SIGNED = re.compile(r"[?&](X-Amz-Signature|Signature|AWSAccessKeyId)=", re.IGNORECASE)


class S3ModelsError(Exception):
    """The models did not come; the text says why and what to do, in a sentence for a person."""


def redacted(text: str) -> str:
    """A URL, or a text with URLs, without user names, passwords and queries."""
    return _QUERY.sub(r"\1?***", _CREDENTIALS.sub(r"\1***@", text))


def is_signed(url: str) -> bool:
    """Whether the URL is a presigned one."""
    return _SIGNED.search(url) is not None
