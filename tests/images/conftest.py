# SPDX-License-Identifier: Apache-2.0
"""The images, built from the real Dockerfiles on stand-ins for their base images: `make test-image`."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from podman import Podman

from support.paths import ROOT

WORK = ROOT / "build" / "images"
PYTHON = "docker.io/library/python:3.11-slim"


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    podman = Podman(WORK)
    yield podman
    podman.call("image", "prune", "--force")  # images that newer builds have replaced


@pytest.fixture(scope="session")
def stand_in_python(podman: Podman) -> str:
    """Debian's Python in place of Docker's image, because a registry may be out of reach. Kept between runs."""
    if not podman.has(PYTHON):
        path = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        authorities = "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"
        changes = [f"--change=ENV {path}", f"--change=ENV {authorities}", '--change=CMD ["python3"]']
        with subprocess.Popen(
            [str(Path(__file__).with_name("stand_in_python")), str(WORK)], stdout=subprocess.PIPE
        ) as made:
            podman.call("import", *changes, "-", PYTHON, stdin=made.stdout)
        if made.returncode:
            podman.call("rmi", "--force", PYTHON)
            pytest.fail("stand_in_python failed; its output is above")
    return PYTHON


@pytest.fixture(scope="session")
def torch_options() -> tuple[str, ...]:
    """Build options for torch's CPU build from where this machine's pip finds it; else uv fetches it."""
    pinned = re.search(r"(?m)^torch==.*$", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert pinned is not None
    wheels = WORK / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={wheels}", f"{pinned[0]}+cpu"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return ()
    return (f"--volume={wheels}:/wheels:ro", "--build-arg=UV_OPTIONS=--find-links=/wheels")


@pytest.fixture(scope="session")
def frontend_image(podman: Podman, stand_in_python: str) -> str:
    podman.build("fastapi-triton/frontend", "--target=frontend")
    return "fastapi-triton/frontend"


@pytest.fixture(scope="session")
def demo_image(podman: Podman, frontend_image: str, torch_options: tuple[str, ...]) -> str:
    podman.build("fastapi-triton-demo", "--target=demo", *torch_options)
    return "fastapi-triton-demo"


@pytest.fixture(scope="session")
def triton_image(podman: Podman, demo_image: str) -> str:
    """Triton's Dockerfile on a stand-in for NVIDIA's image, which needs a registry and a GPU."""
    dockerfile = ROOT / "deploy" / "triton" / "Dockerfile"
    (base,) = re.findall(r"(?m)^FROM (\S+)$", dockerfile.read_text(encoding="utf-8"))
    podman.build(base, f"--file={Path(__file__).with_name('stand_in_triton.dockerfile')}")
    podman.build("fastapi-triton/triton", f"--file={dockerfile}")
    return "fastapi-triton/triton"
