# SPDX-License-Identifier: Apache-2.0
"""Triton's address from its URL. The URL may have a user name and a password, which are never shown."""

from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a Triton's HTTP port. As text it is a URL without credentials, safe for logs.

    `path` is the prefix of `/v2` in every request, as behind an ingress: empty, or `/a/path`.
    """

    host: str
    port: int
    is_tls: bool
    netloc: str  # host and port as in the URL
    path: str = ""
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> Self:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        return cls(
            host=parts.hostname or "",
            port=parts.port or (443 if is_tls else 80),
            is_tls=is_tls,
            netloc=parts.netloc.rpartition("@")[2],
            path=parts.path.rstrip("/"),
            user=None if parts.username is None else unquote(parts.username),
            password=unquote(parts.password or ""),
        )

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.netloc}{self.path}"
