# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.hostile.liveness_probe PORT`: request `/health/live` on new connections, as balancers do.

For each line on standard input it prints the longest wait since the last one, in seconds.
"""

import http.client
import select
import sys
import time

INTERVAL_S = 0.005


def get_health(port: int) -> float:
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/health/live")
    response = connection.getresponse()
    response.read()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"GET /health/live returned {response.status}")
    return time.perf_counter() - started


def main(port: int) -> None:
    longest_s = 0.0
    while True:
        longest_s = max(longest_s, get_health(port))
        if select.select([sys.stdin], [], [], INTERVAL_S)[0]:
            if not sys.stdin.readline():
                return
            sys.stdout.write(f"{longest_s}\n")
            sys.stdout.flush()
            longest_s = 0.0


if __name__ == "__main__":
    main(int(sys.argv[1]))
