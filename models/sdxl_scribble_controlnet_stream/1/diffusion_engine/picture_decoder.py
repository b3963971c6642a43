# SPDX-License-Identifier: Apache-2.0
"""A separate process that decodes pictures, and can be killed at any time."""

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
from typing import Any, TypeVar

from diffusion_engine import picture_decoder_protocol
from diffusion_engine.decoding import Decoding
from diffusion_engine.errors import RequestError
from diffusion_engine.image_files.structure import Structure

logger = logging.getLogger(__name__)

# How often a waiting thread checks for cancellation and deadlines.
INTERVAL_S = 0.05
# An interpreter imports numpy and Pillow in well under a second, on an idle machine.
START_TIMEOUT_S = 60.0
# Runs isolated and without `site`, and searches the same folders for modules as this process.
PROGRAM = (
    "import sys; sys.path[:] = sys.argv[4:]; from diffusion_engine.picture_decoder_process import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))"
)
# One thread: its arrays are small, and idle BLAS threads take address space.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
RECEIVED_BYTES = 1 << 20
# For the file itself and the libraries; then the measured need of the most expensive format, with a reserve.
BASE_MEMORY_BYTES = 128 * 1024 * 1024
BYTES_PER_PIXEL = 20

Check = Callable[[], None]
T = TypeVar("T")


class DecoderEndedError(Exception):
    """The process ended, or could not be started. The text has the reason."""


class PictureDecoder:
    """One decoder process. For use by one thread; ends with that thread.

    Args:
        memory_bytes: the memory limit for decoding one picture.
        timeout_s: the time limit for decoding one picture.
    """

    def __init__(self, *, memory_bytes: int, timeout_s: float) -> None:
        self._memory_bytes = memory_bytes
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._field = ""  # the input that is decoded

    @property
    def is_running(self) -> bool:
        """Whether the process runs. Safe to call from any thread."""
        process = self._process
        return process is not None and process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self, check: Check) -> None:
        """Restart the process and wait until it is ready. An exception from `check` meanwhile kills it and is raised.

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
        """Kill the process, even while it decodes."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def decode(self, decoding: Decoding[T], content: bytes, structure: Structure, *, check: Check) -> T:
        """Decode a picture file. Kills the process if that takes too long or `check` raises.

        Args:
            content: the file, or the part of it that decoders need.
            structure: the structure of the whole file.
            check: called several times a second. Its exceptions kill the process and are raised here.

        Raises:
            RequestError: the picture cannot be decoded, or takes too long.
            DecoderEndedError: the process ended.
        """
        request = picture_decoder_protocol.of_request(decoding, content, structure)
        self._field = decoding.field
        response = self._exchange(request, check, timeout_s=self._timeout_s, late=self._too_slow())
        return picture_decoder_protocol.result_of(decoding, *response)

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
        """Send and receive for at most one interval. Returns the bytes that are not sent yet."""
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
            return self._too_slow()
        return DecoderEndedError(f"the decoder ended with {f'signal {-status}' if status < 0 else f'status {status}'}")

    def _too_slow(self) -> RequestError:
        detail = (
            f"`{self._field}` takes more than {self._timeout_s:g} s to decode. Save it again as a plain PNG or JPEG, "
            "or smaller."
        )
        return RequestError("image_too_complex", detail, field=self._field)


def memory_for(max_pixels: int) -> int:
    """The bytes of memory needed to decode this number of pixels and process them."""
    return BASE_MEMORY_BYTES + BYTES_PER_PIXEL * max_pixels


def interpreter() -> str:
    """The command of this process's Python. `sys.executable` may be another program: Triton's stub embeds Python."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = (Path(sys.exec_prefix, "bin"), Path(sys.base_exec_prefix, "bin"), Path(os.__file__).parents[2] / "bin")
    known = [Path(sys.executable)] if Path(sys.executable).name.startswith("python") else []
    for each in (*known, *(folder / name for folder in folders)):
        if os.access(each, os.X_OK):
            return str(each)
    return name  # found by PATH
