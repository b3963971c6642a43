# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton serve --embedded`, and the engine's counter of passes on Triton's metrics port."""

import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

import httpx2

from benchmarks import ROOT
from benchmarks.common.free_port import free_port

LAST_LINES = 20  # of a log
PUBLICATION_S = 1.0  # the engine publishes its metrics twice a second


@dataclass(frozen=True)
class Server:
    url: str
    metrics_url: str

    def passes(self, size: str) -> int:
        """The passes of this size so far, such as 128x128. One that was abandoned before its UNet counts, too."""
        time.sleep(PUBLICATION_S)
        text = httpx2.get(self.metrics_url).text
        found = re.findall(rf'(?m)^sdxl_engine_(?:steps|abandoned_passes)_total{{size="{size}"}} (\S+)$', text)
        return round(sum(map(float, found)))


@contextmanager
def running() -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "fastapi_triton", "serve", "--embedded", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        log = process.stdout
        if log is None:
            raise RuntimeError("started without a pipe")
        reads_on = Thread(target=deque, args=(log, 0))  # since a full pipe would stop the server
        try:
            metrics_url = _metrics_url(log)
            reads_on.start()
            yield Server(f"http://127.0.0.1:{port}", metrics_url)
        finally:
            process.terminate()
            if reads_on.is_alive():
                reads_on.join()  # before the pipe is closed


def _metrics_url(log: Iterable[str]) -> str:
    """Read the log until the server is ready."""
    address, last = "", deque[str](maxlen=LAST_LINES)
    for line in log:
        last.append(line)
        if found := re.search(r"Started Metrics Service at ([\d.:]+)", line):
            address = found[1]
        if "Ready: http" in line:
            return f"http://{address}/metrics"
    raise RuntimeError(f"the server ended before it was ready:\n{''.join(last)}")
