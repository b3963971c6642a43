# SPDX-License-Identifier: Apache-2.0
"""The process that decodes pictures: without torch, with little memory. It ends with the engine.

A picture that takes too long, or too much memory, ends only this process or gets an error.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from diffusion_engine import picture_decoder_protocol
from diffusion_engine.decoding import Decoding
from diffusion_engine.errors import RequestError
from diffusion_engine.image_files.structure import Structure

# Of prctl(2).
PR_SET_PDEATHSIG = 1


def main(parent: int, memory_bytes: int, timeout_s: float) -> None:
    """Process requests from standard input, which is a socket, until it is closed.

    Args:
        parent: the engine's process id.
        memory_bytes: the limit of additional address space for decoding a picture.
        timeout_s: the time limit of a picture. The kernel ends this process then, even if the engine cannot.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C in a terminal, the engine ends this process
    end_with(parent)
    limit_memory(memory_bytes)
    with socket.socket(fileno=os.dup(0)) as connection, connection.makefile("rb") as requests:
        connection.sendall(picture_decoder_protocol.pack(picture_decoder_protocol.READY))
        while (request := picture_decoder_protocol.read(requests)) is not None:
            signal.setitimer(signal.ITIMER_REAL, timeout_s)  # its default action ends the process
            response = respond(*picture_decoder_protocol.request_of(*request))
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.sendall(response)


def respond(decoding: Decoding[Any], content: bytes, structure: Structure) -> bytes:
    try:
        return picture_decoder_protocol.of_result(decoding, decoding.decode(content, structure))
    except RequestError as error:
        return picture_decoder_protocol.of_error(error)
    except MemoryError:
        detail = f"`{decoding.field}` takes more memory to decode than the engine allows. Send a smaller image."
        return picture_decoder_protocol.of_error(RequestError("image_too_large", detail, field=decoding.field))


def end_with(parent: int) -> None:
    """Make the kernel kill this process when the engine's thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the engine has ended already")


def limit_memory(memory_bytes: int) -> None:
    """Limit the address space to its current size plus this number of bytes."""
    if sys.platform != "linux":
        return
    num_pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = num_pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
