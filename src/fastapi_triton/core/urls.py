# SPDX-License-Identifier: Apache-2.0
"""Checks of the URLs among the settings."""

import re
from urllib.parse import urlsplit


def triton_url(url: str) -> str:
    """The URL of Triton's HTTP port. Errors do not repeat it, since it may contain a password.

    Raises:
        ValueError: it is not such a URL.
    """
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or re.search(r"[\s\x00-\x1f\x7f\\]", url):
        raise ValueError("write it as http://host:port, or https://host:port")
    if "?" in url or "#" in url:
        raise ValueError("remove the query (?) and the fragment (#)")
    path = parts.path.rstrip("/")
    if path.endswith("/v2"):
        raise ValueError("remove /v2 from its end; the frontend adds it to every request")
    if not re.fullmatch(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*", path):
        raise ValueError(
            "its path may contain only letters, digits and -._~!$&'()*+,;=:@; encode other characters, as in %20"
        )
    return url


def database_url(url: str) -> str:
    """A URL whose password is encoded. With a plain @, the driver's errors would show part of the password as the host.

    Raises:
        ValueError: it contains an @ that is not encoded.
    """
    if url.startswith("postgresql") and url.partition("://")[2].partition("?")[0].count("@") > 1:
        raise ValueError("write an @ in the user name or the password as %40")
    return url


def triton_grpc_url(url: str | None) -> str | None:
    """The URL of Triton's gRPC port; None if it is empty.

    Raises:
        ValueError: it is not such a URL.
    """
    if not url:
        return None
    if not re.fullmatch(r"grpcs?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}", url):
        raise ValueError("write it as grpc://host:port, or grpcs://host:port for TLS")
    return url
