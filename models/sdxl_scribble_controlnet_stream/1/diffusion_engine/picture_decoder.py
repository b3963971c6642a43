# SPDX-License-Identifier: Apache-2.0
"""A separate process that decodes pictures, and can be ended at any time."""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusion_engine import picture_decoder_protocol
from diffusion_engine.errors import RequestError
from diffusion_engine.image_files.structure import Structure
from diffusion_engine.scribble import Scribble

logger = logging.getLogger(__name__)

# How often a waiting thread checks that the answer is still wanted.
INTERVAL_S = 0.05
# An interpreter imports numpy and Pillow in well under a second, on an idle machine.
START_TIMEOUT_S = 60.0
# Isolated and without `site`: it finds modules where this process does.
PROGRAM = (
    "import sys; sys.path[:] = sys.argv[4:]; from diffusion_engine.picture_decoder_process import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))"
)
# Its arrays are small, and idle threads of a BLAS take address space.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
RECEIVED_BYTES = 1 << 20
# The file itself and what libraries keep; and as measured with the format that needs the most, with some reserve.
BASE_MEMORY_BYTES = 128 * 1024 * 1024
BYTES_PER_PIXEL = 20

Check = Callable[[], None]


class DecoderEndedError(Exception):
    """The process ended, or could not be started; the text says how."""


class PictureDecoder:
    """One decoder process. Used by one thread alone, and ends with that thread.

    Args:
        memory_bytes: how much memory one picture may take.
        timeout_s: how long one picture may take.
    """

    def __init__(self, *, memory_bytes: int, timeout_s: float) -> None:
        self._memory_bytes = memory_bytes
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    @property
    def is_running(self) -> bool:
        """Whether the process is there; safe to ask from any thread."""
        process = self._process
        return process is not None and process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self, check: Check) -> None:
        """Start the process anew and wait until it can decode. Whatever `check` raises in the meantime ends it.

        Raises:
            DecoderEndedError: it cannot be started.
        """
        self.stop()
        ours, theirs = socket.socketpair()
        numbers = (os.getpid(), self._memory_bytes, self._timeout_s)
        command = [interpreter(), "-I", "-S", "-c", PROGRAM, *map(str, numbers), *sys.path]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT}
                )
        except OSError as error:
            ours.close()
            raise DecoderEndedError(f"the decoder cannot be started: {error}") from None
        ours.setblocking(False)
        self._connection = ours
        late = DecoderEndedError(f"the decoder was not ready within {START_TIMEOUT_S:g} s")
        self._exchange(b"", check, timeout_s=START_TIMEOUT_S, late=late)

    def stop(self) -> None:
        """End the process at once, even while it decodes."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def decode(self, content: bytes, structure: Structure, *, invert: str, check: Check) -> Scribble:
        """The strokes of a picture file. The process is ended if they are not wanted any more, or take too long.

        Args:
            content: the file, or the part of it that decoders need.
            structure: that of the whole file.
            check: called several times a second; what it raises ends the process and is raised here.

        Raises:
            RequestError: the picture cannot be decoded, or takes too long.
            DecoderEndedError: the process ended.
        """
        request = picture_decoder_protocol.of_request(content, structure, invert)
        late = too_slow(self._timeout_s)
        return picture_decoder_protocol.scribble_of(
            *self._exchange(request, check, timeout_s=self._timeout_s, late=late)
        )

    def _exchange(
        self, request: bytes, check: Check, *, timeout_s: float, late: Exception
    ) -> tuple[dict[str, Any], bytes]:
        deadline = time.monotonic() + timeout_s
        unsent, received = memoryview(request), bytearray()
        try:
            while (message := picture_decoder_protocol.unpack(received)) is None:
                check()
                if time.monotonic() > deadline:
                    raise late
                unsent = self._move(unsent, received)
        except BaseException:
            self.stop()
            raise
        return message

    def _move(self, unsent: memoryview, received: bytearray) -> memoryview:
        """Send and receive within one interval. Returns the bytes that are still to be sent."""
        if self._connection is None:
            raise DecoderEndedError("the decoder is not running")
        poll = select.poll()
        poll.register(self._connection, select.POLLIN | (select.POLLOUT if unsent else 0))
        for _, events in poll.poll(INTERVAL_S * 1000):
            try:
                if events & select.POLLOUT:
                    unsent = unsent[self._connection.send(unsent) :]
                if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    part = self._connection.recv(RECEIVED_BYTES)
                    if not part:
                        raise self._ending()
                    received += part
            except ConnectionError:
                raise self._ending() from None
        return unsent

    def _ending(self) -> Exception:
        """The error for a process that has closed its end of the socket."""
        status = self._process.wait() if self._process is not None else 0
        if status == -signal.SIGALRM:
            return too_slow(self._timeout_s)
        return DecoderEndedError(f"the decoder ended with {f'signal {-status}' if status < 0 else f'status {status}'}")


def too_slow(timeout_s: float) -> RequestError:
    detail = f"`image` takes more than {timeout_s:g} s to decode. Save it again as a plain PNG or JPEG, or smaller."
    return RequestError("image_too_complex", detail, field="image")


def memory_for(max_pixels: int) -> int:
    """The memory for decoding this number of pixels and finding the strokes in them, in bytes."""
    return BASE_MEMORY_BYTES + BYTES_PER_PIXEL * max_pixels


def interpreter() -> str:
    """The Python that this process is made of, as a command. Triton's Python stub embeds it, so it may not say."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = (Path(sys.exec_prefix, "bin"), Path(sys.base_exec_prefix, "bin"), Path(os.__file__).parents[2] / "bin")
    known = [Path(sys.executable)] if Path(sys.executable).name.startswith("python") else []
    for each in (*known, *(folder / name for folder in folders)):
        if os.access(each, os.X_OK):
            return str(each)
    return name  # wherever PATH has it
