# SPDX-License-Identifier: Apache-2.0
"""What a Triton that is not open to everyone wants of us: certificates, a token, headers. Values are never shown."""

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
    """All that may be needed; by default nothing is."""

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None  # None: the key is in the certificate's file
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
    """Names and values of lines like `X-Tenant: blue`."""
    lines = [line.partition(":") for line in text.splitlines() if line.strip()]
    return [(name.strip(), value.strip()) for name, _, value in lines]


OPEN_TO_ALL = Access()


class HeaderLines:
    """What follows the request line of everything that goes to Triton: where it goes, and as whom.

    Where more than one could say `Authorization`, a header of one's own comes before a token, a token before the URL.
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
        """Whole lines.

        Raises:
            TritonUnavailableError: the token's file cannot be read, and never could.
        """
        return self._static if self._token is None else self._static + self._token.line()


class _TokenFile:
    """A token that others renew in its file, as Kubernetes and Vault do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._line = b""
        self._is_failing = False
        self._file = Reloaded(lambda: stat_version((path,)), lambda _: self._read())

    def line(self) -> bytes:
        """The header of the token as it is now; where its file is gone or empty, of the last one."""
        try:
            self._line = self._file.get()
        except (OSError, ValueError) as error:
            if not self._is_failing:
                logger.error("the token for Triton cannot be read from %s: %s", self._path, type(error).__name__)
            self._is_failing = True
            if not self._line:
                raise TritonUnavailableError(
                    "The frontend's token for Triton cannot be read from its file (TRITON_TOKEN_FILE); "
                    "nothing was run.",
                    code="triton_access_denied",
                ) from None
        return self._line

    def _read(self) -> bytes:
        token = self._path.read_text().strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("no token")
        if self._line or self._is_failing:
            logger.info("the token for Triton was read again from %s", self._path)
        self._is_failing = False
        return b"authorization: Bearer " + token.encode() + b"\r\n"
