# SPDX-License-Identifier: Apache-2.0
"""The entrypoint of the Triton image with models in S3; stand-ins for Triton and its Python."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

import pytest

from support.paths import ROOT
from support.s3_store import BUCKET, Store

# This environment's packages without this project, as in the image.
PYTHON = f'#!/bin/sh\nPYTHONPATH={quote(sysconfig.get_path("purelib"))} exec {quote(sys.executable)} -S "$@"\n'
TRITON = '#!/bin/sh\necho "$$"\nfor each; do echo "$each"; done\nexec cat\n'


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The files that the Dockerfile copies to /opt/fastapi-triton, and a folder of programs for PATH."""
    package = Path("fastapi_triton/embedded/s3_repository")
    shutil.copytree(ROOT / "src" / package, tmp_path / "opt" / package)
    for name in ("entrypoint.sh", "s3_models.py"):
        shutil.copy(ROOT / "deploy" / "triton" / name, tmp_path / "opt")
    for name, text in {"python3": PYTHON, "tritonserver": TRITON}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
    return tmp_path


@contextmanager
def started(image: Path, cache: Path, repository: str) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "PATH": f"{image / 'bin'}:{os.environ['PATH']}",
        "MODEL_REPOSITORY": repository,
        "FASTAPI_TRITON_MODELS_CACHE": str(cache),
    }
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [str(image / "opt" / "entrypoint.sh"), "--log-verbose=1"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_entrypoint_downloads_the_models_and_becomes_triton(store: Store, image: Path, cache: Path) -> None:
    store.put("models/echo/config.pbtxt", "name: 'echo'")
    with started(image, cache, f"s3://{store.url}/{BUCKET}/models") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        pid = process.stdout.readline()
        assert pid, process.stderr.read()
        assert int(pid) == process.pid
        repository = process.stdout.readline().strip().removeprefix("--model-repository=")
        assert (Path(repository) / "echo" / "config.pbtxt").read_text() == "name: 'echo'"
        assert [process.stdout.readline().strip() for _ in range(2)] == ["--exit-timeout-secs=120", "--log-verbose=1"]
        snapshot = os.open(Path(repository).parent, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # Triton has the lock of the version that it serves
            fcntl.flock(snapshot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM
        fcntl.flock(snapshot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(snapshot)


def test_a_failed_download_is_one_line_and_triton_does_not_start(store: Store, image: Path, cache: Path) -> None:
    with started(image, cache, "s3://my-bukcet/models") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert err.splitlines()[-1].startswith("There is no bucket my-bukcet")
    assert "Traceback" not in err
