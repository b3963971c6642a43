# SPDX-License-Identifier: Apache-2.0
"""Credentials for a protected Triton: certificates, a token, headers. Values are never shown."""

import logging
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from fastapi_triton.core.errors import TritonUnavailableError
from fastapi_triton.core.file_watch import Reloaded, stat_version
from fastapi_triton.core.settings import Settings
from fastapi_triton.triton.transport.address import Address

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Access:
    """The configured credentials, by default none."""

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None  # None: the key is in the certificate file
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    headers: Sequence[tuple[str, str]] = field(default=(), repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        secret, headers = settings.triton_token, settings.triton_headers
        return cls(
            ca_file=settings.triton_ca_file,
            client_cert_file=settings.triton_client_cert_file,
            client_key_file=settings.triton_client_key_file,
            token=secret.get_secret_value() if secret else "",
            token_file=settings.triton_token_file,
            headers=_headers(headers.get_secret_value()) if headers else (),
        )


def _headers(text: str) -> list[tuple[str, str]]:
    """Names and values from lines such as `X-Tenant: blue`."""
    lines = [line.partition(":") for line in text.splitlines() if line.strip()]
    return [(name.strip(), value.strip()) for name, _, value in lines]


OPEN_TO_ALL = Access()


class HeaderLines:
    """The `Host` and credential headers of every request to Triton.

    For `Authorization`, a configured header takes precedence over a token, and a token over the URL.
    """

    def __init__(self, address: Address, access: Access) -> None:
        self.names = frozenset(name.lower().encode() for name, _ in access.headers)
        lines = list(access.headers)
        if b"host" not in self.names:
            lines.append(("host", address.netloc))
        if b"authorization" in self.names:
            access = replace(access, token="", token_file=None)
        elif access.token:
            lines.append(("authorization", f"Bearer {access.token}"))
        elif address.user is not None and access.token_file is None:
            credentials = b64encode(f"{address.user}:{address.password}".encode()).decode()
            lines.append(("authorization", f"Basic {credentials}"))
        self._static = b"".join(f"{name}: {value}\r\n".encode() for name, value in lines)
        self._token = None if access.token_file is None or access.token else _TokenFile(access.token_file)

    def lines(self) -> bytes:
        """The headers as complete lines.

        Raises:
            TritonUnavailableError: the token file could never be read.
        """
        return self._static if self._token is None else self._static + self._token.line()


class _TokenFile:
    """A token in a file that another program renews, as Kubernetes and Vault do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._line = b""
        self._is_failing = False
        self._file = Reloaded(lambda: stat_version((path,)), lambda _: self._read())

    def line(self) -> bytes:
        """The header of the current token. If the file is missing or empty, the last token is used."""
        try:
            self._line = self._file.get()
        except (OSError, ValueError) as error:
            if not self._is_failing:
                logger.error("cannot read the token for Triton from %s: %s", self._path, type(error).__name__)
            self._is_failing = True
            if not self._line:
                raise TritonUnavailableError(
                    "The frontend cannot read its token for Triton from the file (TRITON_TOKEN_FILE). Nothing was run.",
                    code="triton_access_denied",
                ) from None
        return self._line

    def _read(self) -> bytes:
        token = self._path.read_text().strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("no token")
        if self._line or self._is_failing:
            logger.info("read a new token for Triton from %s", self._path)
        self._is_failing = False
        return b"authorization: Bearer " + token.encode() + b"\r\n"
