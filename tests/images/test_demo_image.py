# SPDX-License-Identifier: Apache-2.0
"""The demo's image: frontend, embedded Triton and demo checkpoint on the CPU, started as README.md does."""

import io
import json
from collections.abc import Iterator

import httpx2
import pytest
from PIL import Image
from podman import Container, Podman

from support.paths import ROOT

pytestmark = pytest.mark.image

INFER = "/sdxl/scribble-controlnet/infer"
HOUSE = ROOT / "demo" / "examples" / "house.png"
# Triton's Python backend writes to /tmp. 64 MB of shared memory is an engine's default.
STRICT = ("--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--cap-drop=all", "--shm-size=64m")


@pytest.fixture(scope="module", params=[(), STRICT], ids=["as documented", "read-only"])
def demo(podman: Podman, demo_image: str, request: pytest.FixtureRequest) -> Iterator[Container]:
    with podman.running(demo_image, options=request.param) as container:
        container.wait_for("Ready: http")
        yield container


def house(url: str, **form: str) -> httpx2.Response:
    image = {"image": (HOUSE.name, HOUSE.read_bytes(), "image/png")}
    form = {"prompt": "a red house in the snow", **form}
    return httpx2.post(url + INFER, data=form, files=image, headers={"Accept": "image/png"}, timeout=120)


def test_demo_serves_the_page_and_a_picture(demo: Container) -> None:
    picture = house(demo.url)
    assert picture.status_code == 200, picture.text
    assert Image.open(io.BytesIO(picture.content)).format == "PNG"
    assert "<canvas" in httpx2.get(demo.url).text
    assert httpx2.get(f"{demo.url}/models").status_code == 200  # generated endpoints, as with `make run`
    demo.check_health()
    assert demo.exec("id", "--user") == "1000"
    assert demo.stop(60) == 0, demo.log


def test_demo_has_the_cpu_build_of_torch_and_no_tests(podman: Podman, demo_image: str) -> None:
    packages = json.loads(podman.run(demo_image, "pip", "list", "--format=json"))
    versions = {package["name"].lower(): package["version"] for package in packages}
    assert versions["torch"].endswith("+cpu")
    assert not [name for name in versions if name.startswith("nvidia-") and name != "nvidia-pytriton"]
    assert versions.keys().isdisjoint({"pytest", "uv"})
    assert "tests" not in podman.run(demo_image, "ls", "-A", "/app")
    assert podman.megabytes(demo_image) < 2500
