# SPDX-License-Identifier: Apache-2.0
"""Compare models from S3 with `aws s3 sync`: `python -m benchmarks.s3_models`. It takes minutes and 5 GB of disk.

Both download the same repository alternately, from an S3 API server on loopback (moto). Compare their CPU time: the
server is one Python process and slower than either.
"""

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from benchmarks import ROOT
from benchmarks.common.free_port import free_port
from benchmarks.common.machine import commit, cpu_name
from benchmarks.common.measurement_lock import measurement

BUCKET = "benchmark"
URL = f"s3://{BUCKET}/models"
AWSCLI = "awscli==1.46.3"
NUM_FILES = 300
# Sizes within ten files: configs and code, small networks, and one that is downloaded in parts.
SHARES = (0.0001, 0.0001, 0.001, 0.01, 0.03, 0.05, 0.08, 0.1, 0.2, 0.5287)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one command."""

    wall_s: float
    cpu_s: float  # of the command and its threads, without the server

    def __str__(self) -> str:
        return f"{self.wall_s:6.2f} s wall {self.cpu_s:6.2f} s CPU"


@contextmanager
def server() -> Iterator[str]:
    """Run moto as a process of its own. Yields its URL."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                raise RuntimeError("moto did not start")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def upload(url: str, num_bytes: int) -> None:
    """Upload 300 files. Every tenth has half of the bytes of its ten."""
    s3 = boto3.client("s3", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))
    s3.create_bucket(Bucket=BUCKET)
    block = random.Random(0).randbytes(1024 * 1024)  # noqa: S311
    for number in range(NUM_FILES):
        size = int(num_bytes / (NUM_FILES / 10) * SHARES[number % 10])
        body = f"{number}\n".encode() + block * (size // len(block) + 1)
        name = "config.pbtxt" if number % 10 == 0 else f"1/file-{number % 10}"
        s3.put_object(Bucket=BUCKET, Key=f"models/model_{number // 10:02}/{name}", Body=body[:size])


def run(*command: str) -> Sample:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}")
    return Sample(wall_s, usage.ru_utime + usage.ru_stime)


def aws() -> str:
    """The AWS command line. If it is missing, it is installed into its own environment, which needs the network."""
    folder = ROOT / ".venv-awscli"
    if not (folder / AWSCLI).exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", AWSCLI], check=True)
        (folder / AWSCLI).touch()
    return str(folder / "bin" / "aws")


def as_in_the_image(folder: Path) -> tuple[str, ...]:
    """Our command as in the Triton image: `-S` hides the installed package, whose import would be measured too."""
    package = Path("fastapi_triton/embedded/s3_repository")
    shutil.copytree(ROOT / "src" / package, folder / "image" / package)
    shutil.copy(ROOT / "deploy" / "triton" / "s3_models.py", folder / "image")
    packages = f"PYTHONPATH={sysconfig.get_path('purelib')}"
    return ("env", packages, sys.executable, "-S", str(folder / "image" / "s3_models.py"))


def rounds(folder: Path, num_rounds: int) -> dict[str, list[Sample]]:
    """Run both alternately: into an empty folder, then again with nothing changed."""
    ours = (*as_in_the_image(folder), URL, "--models-cache", str(folder / "ours"))
    theirs = (aws(), "s3", "sync", URL, str(folder / "theirs"), "--only-show-errors")
    samples: dict[str, list[Sample]] = {}
    for number in range(num_rounds):
        both = {"fastapi-triton": ours, "aws s3 sync": theirs}
        for name in sorted(both, reverse=bool(number % 2)):
            for which in ("first start", "nothing changed"):
                sample = run(*both[name])
                samples.setdefault(f"{name}, {which}", []).append(sample)
                sys.stdout.write(f"{sample}  {name}, {which}\n")
                sys.stdout.flush()
        same_files(folder)
        shutil.rmtree(folder / "ours")
        shutil.rmtree(folder / "theirs")
    return samples


def same_files(folder: Path) -> None:
    """Check that both downloaded all files."""
    (downloaded,) = (folder / "ours").glob("*/current")
    found = [
        {path.relative_to(each): path.stat().st_size for path in each.rglob("*") if path.is_file()}
        for each in (downloaded.resolve(), folder / "theirs")
    ]
    if found[0] != found[1] or len(found[0]) != NUM_FILES:
        raise RuntimeError("the two commands did not download the same files")


def main() -> None:
    """Measure, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    num_bytes = int(options.gigabytes * 1e9)
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")  # noqa: S106
    with tempfile.TemporaryDirectory(prefix="s3-models-") as folder, server() as url:
        if shutil.disk_usage(folder).free < 3 * num_bytes:
            sys.exit(f"{folder} has not enough free space for three times {options.gigabytes} GB.")
        os.environ["AWS_ENDPOINT_URL"] = url
        upload(url, num_bytes)
        with measurement():
            samples = rounds(Path(folder), options.rounds)
    sys.stdout.write(
        f"\n{cpu_name()}, {os.cpu_count()} cores, commit {commit()}, {AWSCLI}; medians of {options.rounds}\n"
    )
    for name, each in samples.items():
        median = Sample(
            statistics.median(sample.wall_s for sample in each), statistics.median(sample.cpu_s for sample in each)
        )
        sys.stdout.write(f"{median}  {name}\n")


if __name__ == "__main__":
    main()
