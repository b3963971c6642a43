# SPDX-License-Identifier: Apache-2.0
"""A free TCP port on the loopback interface, for a server that needs its number in advance."""

import socket


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
