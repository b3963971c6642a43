# SPDX-License-Identifier: Apache-2.0
"""Why there is no connection to Triton, or no longer one, as the error that a caller should meet."""

import errno
import os
import socket
import ssl

from fastapi_triton.core.errors import FastAPITritonError, InferenceError, TritonUnavailableError
from fastapi_triton.triton.transport import tls

LOST = "triton_connection_lost"
TLS_FAILED = "triton_tls_failed"
ACCESS_DENIED = "triton_access_denied"
# How a server begins that waits for TLS and got something else: an alert, or a handshake; TLS 1.x.
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
_RETRY_AFTER_S = 2.0

# What is met when a TLS handshake finds no partner.
_AFTER_CONNECTING = (TimeoutError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
_TLS_DOUBT = " (does that port speak TLS, and does it want a client certificate?)"


def unreachable(error: Exception, *, is_tls: bool) -> TritonUnavailableError:
    """No connection could be made. Names neither the host nor its address."""
    if isinstance(error, ssl.SSLError):
        code, why = TLS_FAILED, tls.reason(error)
    else:
        code, why = None, _why(error) + (_TLS_DOUBT if is_tls and isinstance(error, _AFTER_CONNECTING) else "")
    return TritonUnavailableError(
        f"Triton cannot be reached: {why}; nothing was run. Try again.", code=code, retry_after_s=_RETRY_AFTER_S
    )


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, socket.gaierror):
        return "the host name in its URL is not known here"
    if isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        return "the connection was closed while it was made"
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return "a file of its TLS settings cannot be read"
    if isinstance(error, OSError) and error.errno not in (None, errno.ECONNREFUSED):
        return os.strerror(error.errno).lower()  # no route to it, or no files left to open
    return "nothing listens there"


def lost() -> TritonUnavailableError:
    """What may have run: such a request is never sent again."""
    return TritonUnavailableError(
        "The connection to Triton broke before it had answered; the request may have run.",
        code=LOST,
        retry_after_s=_RETRY_AFTER_S,
    )


def ended(error: Exception | None) -> TritonUnavailableError:
    """The connection's end, where somebody still waits; with TLS 1.3 a server's distrust comes as late as this."""
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return unreachable(error, is_tls=True)
    return lost()


def no_http(data: memoryview) -> FastAPITritonError:
    """What came instead of an answer."""
    if data[:2] in _TLS_RECORDS:
        return wrong_scheme()
    return InferenceError("What Triton's port answered cannot be read as HTTP.")


def wrong_scheme() -> TritonUnavailableError:
    """A TLS port was asked without TLS."""
    return TritonUnavailableError(
        "Triton cannot be reached: its URL says http, but that port speaks TLS; write https://. Nothing was run.",
        code=TLS_FAILED,
        retry_after_s=_RETRY_AFTER_S,
    )


def access_denied(status: int) -> TritonUnavailableError:
    """Nothing that the caller did or can mend."""
    return TritonUnavailableError(
        f"Triton, or what stands before it, does not take the frontend's credentials ({status}); nothing was run.",
        code=ACCESS_DENIED,
    )


def broken_off(*, is_tls: bool) -> TritonUnavailableError:
    """Connections are taken and closed again, as by a balancer with nothing behind it."""
    doubt = _TLS_DOUBT if is_tls else ""
    return TritonUnavailableError(
        f"Triton cannot be reached: connections are closed before anything is answered{doubt}; nothing was run. "
        "Try again.",
        retry_after_s=_RETRY_AFTER_S,
    )


def silent(for_s: float) -> TritonUnavailableError:
    """It takes connections, and says nothing: stopped, or out of everything."""
    return TritonUnavailableError(
        f"Triton takes connections, but has not answered anything for {for_s:g} s; nothing was run. Try again.",
        retry_after_s=_RETRY_AFTER_S,
    )
