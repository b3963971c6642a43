# SPDX-License-Identifier: Apache-2.0
"""Finds, installs and runs NVIDIA's perf_analyzer, and reads its report."""

import csv
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fastapi_triton.cli.perf import tool
from fastapi_triton.cli.perf.tool import Measurement, PerfError, ToolError
from fastapi_triton.triton.transport.address import Address
from fastapi_triton.triton.transport.credentials import Access, HeaderLines

# The last wheel of tritonclient with the binary, for any glibc since 2014. perf-analyzer's own wheel, which is newer,
# needs glibc 2.38.
PACKAGES = ("tritonclient==2.49.0", "nvidia-cuda-runtime-cu12==12.6.77")
# perf_analyzer reports the mean of three windows, even if they differ widely: our rounds show the spread.
_THREE_WINDOWS = ("--max-trials", "3", "--stability-percentage", "1000000", "--measurement-mode", "count_windows")

HOW_TO_INSTALL = """\
perf_analyzer was not found. Do one of these:
  fastapi-triton perf … --install          install it into {folder}
                                           (x86-64; needs libb64: apt-get install libb64-0d)
  pip install perf-analyzer                needs glibc 2.38 or newer
  fastapi-triton perf … --data-only        write only the input data, for the perf_analyzer of NVIDIA's SDK container
  fastapi-triton perf … --perf-analyzer    name the path of the binary"""


@dataclass(frozen=True, slots=True)
class Load:
    """The load of one run. `num_requests` is the minimum of a window."""

    model: str
    concurrency: int
    batch_size: int
    num_requests: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class Target:
    """A server to measure: its address, and perf_analyzer's options for certificates and headers."""

    address: str
    options: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, address: Address, access: Access) -> Self:
        options: list[str] = []
        for flag, file in (
            ("--ssl-https-ca-certificates-file", access.ca_file),
            ("--ssl-https-client-certificate-file", access.client_cert_file),
            ("--ssl-https-private-key-file", access.client_key_file or access.client_cert_file),
        ):
            if address.is_tls and file is not None:
                options += (flag, str(file))
        for line in HeaderLines(address, access).lines().decode().splitlines():
            name, _, value = line.partition(": ")
            if name.lower() != "host" or value != address.netloc:  # perf_analyzer sends that one itself
                options += ("-H", f"{name}:{value}")
        return cls(str(address) if address.is_tls else address.netloc, tuple(options))


def find(named: Path | None) -> Path:
    """The binary. Raises what `tool.find` raises."""
    return tool.find("perf_analyzer", named, HOW_TO_INSTALL)


def install() -> Path:
    """Install the binary into `folder()`, away from every Python environment.

    Raises:
        PerfError: pip failed.
    """
    folder = tool.cache_folder("perf_analyzer")
    command = (*(sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(folder)), *PACKAGES)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PerfError(f"pip could not install perf_analyzer:\n{done.stderr.strip()}")
    return folder / "bin" / "perf_analyzer"


def run(binary: Path, load: Load, *, target: Target, input_data: Path, report: Path) -> Measurement:
    """Measure a server, and keep perf_analyzer's report at `report`.

    Raises:
        ToolError: perf_analyzer failed. The text has its error output.
    """
    report.unlink(missing_ok=True)
    command = (
        *(str(binary), "-m", load.model, "-u", target.address, "-i", "http", "-b", str(load.batch_size)),
        *("--input-data", str(input_data), "--concurrency-range", str(load.concurrency), "-f", str(report)),
        *target.options,
        *("--measurement-request-count", str(load.num_requests), "-p", str(load.window_ms), *_THREE_WINDOWS),
    )
    done = subprocess.run(command, env=_environment(binary), capture_output=True, text=True, check=False)
    if done.returncode != 0 or not report.is_file():
        raise ToolError(f"perf_analyzer failed against {target.address}:\n{_error_output(done)}")
    return read_report(report)


def read_report(report: Path) -> Measurement:
    """The last line of a report (`-f`), whose latencies are in microseconds.

    Raises:
        ToolError: the report is empty.
    """
    with report.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows:
        raise ToolError(f"perf_analyzer measured nothing: {report} is empty.")
    p50, p95, p99 = (float(rows[-1][f"{name} latency"]) / 1000 for name in ("p50", "p95", "p99"))
    return Measurement(float(rows[-1]["Inferences/Second"]), p50, p95, p99)


def _environment(binary: Path) -> dict[str, str]:
    """The environment with the CUDA runtime from `install`, which the binary needs even without a GPU."""
    libraries = binary.parent.parent / "nvidia" / "cuda_runtime" / "lib"
    if not libraries.is_dir():
        return dict(os.environ)
    paths = (str(libraries), os.environ.get("LD_LIBRARY_PATH", ""))
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(path for path in paths if path)}


def _error_output(done: subprocess.CompletedProcess[str]) -> str:
    """The lines with errors, without the pages of usage that follow an invalid option."""
    missing = re.search(r"error while loading shared libraries: (\S+):", done.stderr)
    if missing is not None:
        hint = " (apt-get install libb64-0d)" if "libb64" in missing[1] else ""
        return f"The library {missing[1]} is missing{hint}."
    output = "\n".join(stream.partition("Usage:")[0] for stream in (done.stdout, done.stderr))
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error|fail|exception", line, re.IGNORECASE)] or lines
    return "\n".join(dict.fromkeys(errors[-20:])) or f"no output; exit status {done.returncode}."
