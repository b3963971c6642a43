# SPDX-License-Identifier: Apache-2.0
"""The images, built from the real Dockerfiles on stand-ins for their base images: `make test-image`."""

import subprocess
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
        assert made.returncode == 0
    return PYTHON


@pytest.fixture(scope="session")
def frontend_image(podman: Podman, stand_in_python: str) -> str:
    podman.build("fastapi-triton/frontend", "--target=frontend")
    return "fastapi-triton/frontend"
