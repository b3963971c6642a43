# SPDX-License-Identifier: Apache-2.0
"""TLS to Triton: trusted certificates, the client certificate, and the reasons of failures."""

import ssl
from functools import partial

from fastapi_triton.core.file_watch import Reloaded, stat_version
from fastapi_triton.triton.transport.credentials import Access

# OpenSSL's reasons for rejecting a certificate (X509_V_ERR_*), grouped by remedy.
_EXPIRED, _NOT_YET_VALID = 10, 9
_UNKNOWN_CA = (2, 18, 19, 20, 21)
_WRONG_NAME = (62, 64)
# OpenSSL's errors for files that it cannot use.
_BAD_FILES = (
    "NO_CERTIFICATE_OR_CRL_FOUND",
    "NO_START_LINE",
    "PEM_LIB",
    "KEY_VALUES_MISMATCH",
    "BAD_PASSWORD_READ",
    "BAD_DECRYPT",
)


class ClientTLS:
    """Makes TLS contexts. Changed files are read again for the next connection."""

    def __init__(self, access: Access) -> None:
        self._ca_file = access.ca_file
        self._cert_file, self._key_file = access.client_cert_file, access.client_key_file
        files = [file for file in (self._ca_file, self._cert_file, self._key_file) if file is not None]
        self._context = Reloaded(partial(stat_version, files), lambda _: self._load())

    def context(self) -> ssl.SSLContext:
        """The TLS context for one connection.

        Raises:
            OSError, ssl.SSLError: a file cannot be read, or has another format.
        """
        return self._context.get()

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._ca_file)
        if self._cert_file is not None:
            # For a key with a passphrase, OpenSSL would prompt on the terminal and block the process.
            context.load_cert_chain(self._cert_file, self._key_file, password=lambda: "")
        return context


def reason(error: ssl.SSLError) -> str:
    """The reason why TLS failed, and the remedy: the end of a sentence that begins with `Triton cannot be reached:`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrust(error.verify_code, error.verify_message)
    name = error.reason or ""
    if name in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
        return "its URL says https, but that port does not speak TLS; write http:// or name the TLS port"
    if name in _BAD_FILES:
        return "a certificate or key file in the TLS settings is not PEM, or key and certificate do not match"
    if "ALERT" in name and ("CERT" in name or "UNKNOWN_CA" in name or "HANDSHAKE_FAILURE" in name):
        return "it rejects the frontend's client certificate, or requires one (TRITON_CLIENT_CERT_FILE)"
    return f"TLS failed ({name or type(error).__name__})"


def _distrust(code: int, message: str) -> str:
    if code == _EXPIRED:
        return "its TLS certificate, or one that signed it, has expired; renew it"
    if code == _NOT_YET_VALID:
        return "its TLS certificate is not valid yet; check the clocks of both machines"
    if code in _UNKNOWN_CA:
        return (
            "the frontend does not trust the signer of its TLS certificate; set the CA's certificate (TRITON_CA_FILE)"
        )
    if code in _WRONG_NAME:
        return "its TLS certificate is not for the host name in its URL; use a name from the certificate"
    return f"its TLS certificate is not accepted ({message})"
