# SPDX-License-Identifier: Apache-2.0
"""Connection failures as errors for clients."""

import errno
import os
import socket
import ssl

from fastapi_triton.core.errors import FastAPITritonError, InferenceError, TritonUnavailableError
from fastapi_triton.triton.transport import tls

LOST = "triton_connection_lost"
TLS_FAILED = "triton_tls_failed"
ACCESS_DENIED = "triton_access_denied"
# The first bytes of a TLS 1.x server that received plain HTTP: an alert, or a handshake.
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
_RETRY_AFTER_S = 2.0

# The errors if the other side does not make a TLS handshake.
_AFTER_CONNECTING = (TimeoutError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
_TLS_DOUBT = " (does that port speak TLS, and does it want a client certificate?)"


def unreachable(error: Exception, *, is_tls: bool) -> TritonUnavailableError:
    """The error if no connection could be made. It names neither the host nor its address."""
    if isinstance(error, ssl.SSLError):
        code, why = TLS_FAILED, tls.reason(error)
    else:
        code, why = None, _why(error) + (_TLS_DOUBT if is_tls and isinstance(error, _AFTER_CONNECTING) else "")
    return TritonUnavailableError(
        f"Triton cannot be reached: {why}. Nothing was run. Try again.",
        reason=why,
        code=code,
        retry_after_s=_RETRY_AFTER_S,
    )


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, socket.gaierror):
        return "the host name in its URL cannot be resolved"
    if isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        return "the connection was closed during setup"
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return "a file of its TLS settings cannot be read"
    if isinstance(error, OSError) and error.errno not in (None, errno.ECONNREFUSED):
        return os.strerror(error.errno).lower()  # no route, or too many open files
    return "nothing listens there"


def lost() -> TritonUnavailableError:
    """The error if the connection broke after sending. The request may have run, so it is not retried."""
    return TritonUnavailableError(
        "The connection to Triton broke before the response. The request may have run.",
        code=LOST,
        retry_after_s=_RETRY_AFTER_S,
    )


def ended(error: Exception | None) -> TritonUnavailableError:
    """The error if a connection ends while a task waits for it. TLS 1.3 reports a rejected certificate only here."""
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return unreachable(error, is_tls=True)
    return lost()


def no_http(data: memoryview) -> FastAPITritonError:
    """The error for data that is not an HTTP response."""
    if data[:2] in _TLS_RECORDS:
        return wrong_scheme()
    return InferenceError("The response from Triton's port is not HTTP.")


def wrong_scheme() -> TritonUnavailableError:
    """The error for plain HTTP to a TLS port."""
    return TritonUnavailableError(
        "Triton cannot be reached: its URL says http, but the port speaks TLS. Nothing was run. "
        "The operator must write https:// in TRITON_URL.",
        reason="the URL says http, but the port speaks TLS; write https:// in TRITON_URL",
        code=TLS_FAILED,
        retry_after_s=_RETRY_AFTER_S,
    )


def access_denied(status: int) -> TritonUnavailableError:
    """The error for rejected credentials. Clients can neither cause nor fix it."""
    return TritonUnavailableError(
        f"Triton, or a proxy in front of it, rejects the frontend's credentials ({status}). Nothing was run. "
        "The operator must correct them.",
        reason=f"it, or a proxy in front of it, rejects the frontend's credentials ({status})",
        code=ACCESS_DENIED,
    )


def broken_off(*, is_tls: bool) -> TritonUnavailableError:
    """The error if connections are accepted and closed at once, as by a load balancer without a backend."""
    why = "connections are closed before any response" + (_TLS_DOUBT if is_tls else "")
    return TritonUnavailableError(
        f"Triton cannot be reached: {why}. Nothing was run. Try again.",
        reason=why,
        retry_after_s=_RETRY_AFTER_S,
    )


def silent(for_s: float) -> TritonUnavailableError:
    """The error if Triton accepts connections and does not respond."""
    return TritonUnavailableError(
        f"Triton accepts connections, but has not responded for {for_s:g} s. Nothing was run. Try again.",
        reason=f"it accepts connections, but has not responded for {for_s:g} s",
        retry_after_s=_RETRY_AFTER_S,
    )
