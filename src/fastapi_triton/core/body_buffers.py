# SPDX-License-Identifier: Apache-2.0
"""Limits the memory that request bodies occupy in this process."""

from fastapi_triton.core.errors import OverloadedError

# The key of an app's buffers in the state that its lifespan shares with the server.
STATE = "body_buffers"
# Smaller bodies are not counted, so that small requests still work when large bodies fill the buffers. The limit of
# connections bounds their memory.
UNCOUNTED_BYTES = 64 * 1024
RETRY_AFTER_S = 1.0


class BodyBuffers:
    """Counts the body bytes of all running requests."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0

    def take(self, num_bytes: int) -> None:
        """Count more bytes.

        Raises:
            OverloadedError: this would exceed the limit.
        """
        if self.num_bytes + num_bytes > self.max_bytes:
            raise OverloadedError(
                f"Request bodies occupy {self.num_bytes:,} of {self.max_bytes:,} bytes here. Try again later.",
                code="body_buffers_full",
                retry_after_s=RETRY_AFTER_S,
            )
        self.num_bytes += num_bytes

    def release(self, num_bytes: int) -> None:
        """Count fewer bytes."""
        self.num_bytes -= num_bytes


class BodyShare:
    """The bytes that one request has counted beside those of its body."""

    def __init__(self, buffers: BodyBuffers) -> None:
        self._buffers = buffers
        self._num_bytes = 0

    def take(self, num_bytes: int) -> None:
        """Count more bytes. Raises what `BodyBuffers.take` raises."""
        self._buffers.take(num_bytes)
        self._num_bytes += num_bytes

    def release(self) -> None:
        """Count none of them any more."""
        self._buffers.release(self._num_bytes)
        self._num_bytes = 0
