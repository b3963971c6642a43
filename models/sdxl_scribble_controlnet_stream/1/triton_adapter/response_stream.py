# SPDX-License-Identifier: Apache-2.0
"""Sends the responses of one request. Safe to use from any thread, also after the final response."""

import threading
from typing import Any

import triton_python_backend_utils as pb_utils


class ResponseStream:
    """Owns the response sender of one request. Nothing else may keep a reference to that sender.

    Triton frees a request's response factory when its final response is sent. `is_cancelled` of a sender whose factory
    is freed, or is being freed, reads freed memory and kills Triton with a segmentation fault. So the lock covers
    `send` and `is_cancelled`, and the sender is dropped with the final response.
    """

    def __init__(self, sender: Any) -> None:
        self._sender = sender  # None once the final response has been sent
        self._lock = threading.Lock()

    def send(self, response: Any, *, is_final: bool = False) -> None:
        """Send one response. A response that cannot be sent, or follows the final one, is logged and dropped."""
        with self._lock:
            if self._sender is None:
                pb_utils.Logger.log_error("a response after the final one was dropped")
                return
            try:
                self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if is_final else 0)
            except pb_utils.TritonModelException as error:
                pb_utils.Logger.log_warn(f"a response could not be sent: {error}")
            finally:
                if is_final:
                    self._sender = None

    def is_cancelled(self) -> bool:
        """Whether the client cancelled the request. Always False after the final response."""
        with self._lock:
            return self._sender is not None and bool(self._sender.is_cancelled())
