# SPDX-License-Identifier: Apache-2.0
"""Triton's image, with the Triton of a Python wheel in place of NVIDIA's image, started as compose.yaml does."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
import yaml
from PIL import Image
from podman import HOST, Container, Podman, PodmanError

from support.paths import ROOT
from support.s3_store import BUCKET, Store
from support.serving import ECHO_APP

pytestmark = pytest.mark.image

SERVICE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["triton"]
DEMO_CHECKPOINT = {"SDXL_CHECKPOINT": "demo_checkpoint", "SDXL_CONTROLNET": "", "SDXL_VAE": ""}  # as in docs/deploy.md
READY = "/v2/health/ready"
GRACE_S = 130


@contextmanager
def triton(podman: Podman, image: str, *options: str, **env: str) -> Iterator[Container]:
    options = (f"--shm-size={SERVICE['shm_size']}", "--cap-drop=all", *options)
    with podman.running(image, *SERVICE["command"], port=8000, env=env, options=options) as container:
        container.wait_for("Started HTTPService")
        yield container


def test_both_images_together_make_a_picture(podman: Podman, frontend_image: str, triton_image: str) -> None:
    models = f"--volume={ROOT / 'models'}:/models:ro"
    with triton(podman, triton_image, models, **DEMO_CHECKPOINT) as server:
        assert httpx2.get(server.url + READY).status_code == 200
        assert server.exec("id", "--user") == "1000"
        with podman.running(frontend_image, env={"TRITON_URL": server.url.replace("127.0.0.1", HOST)}) as frontend:
            frontend.wait_for("Ready: http")
            house = (ROOT / "demo" / "examples" / "house.png").read_bytes()
            picture = httpx2.post(
                f"{frontend.url}/sdxl/scribble-controlnet/infer",
                data={"prompt": "a red house in the snow"},
                files={"image": ("house.png", house, "image/png")},
                headers={"Accept": "image/png"},
                timeout=120,
            )
            assert picture.status_code == 200, picture.text
            assert Image.open(io.BytesIO(picture.content)).format == "PNG"
        # Triton is the first process of its container, so the stop signal reaches it.
        assert "tritonserver" in server.exec("cat", "/proc/1/cmdline")
        assert server.stop(GRACE_S) == 0, server.log


def test_models_from_s3_are_downloaded_into_the_cache(podman: Podman, triton_image: str) -> None:
    with Store().running() as store:
        store.empty()
        for path in (ECHO_APP / "models").rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                store.put(f"models/{path.relative_to(ECHO_APP / 'models')}", path.read_bytes())
        with triton(
            podman,
            triton_image,
            MODEL_REPOSITORY=f"s3://{BUCKET}/models",
            AWS_ENDPOINT_URL=store.url.replace("127.0.0.1", HOST),
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_DEFAULT_REGION="us-east-1",
        ) as server:
            assert httpx2.get(f"{server.url}/v2/models/echo/ready").status_code == 200
            assert server.exec("find", "/cache/models", "-name", "config.pbtxt")
            assert server.stop(GRACE_S) == 0, server.log


def test_without_models_the_container_ends_with_one_sentence(podman: Podman, triton_image: str) -> None:
    with pytest.raises(PodmanError, match=r"There is no model in /models\. Mount a model repository there") as error:
        podman.run(triton_image)
    assert "Traceback" not in str(error.value)
