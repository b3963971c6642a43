# SPDX-License-Identifier: Apache-2.0
"""The slim frontend's image, in front of a real Triton on this machine."""

import io
import json
import threading
from collections.abc import Iterator

import httpx2
import pytest
from PIL import Image
from podman import HOST, Container, Podman

from support.paths import ROOT
from support.serving import Server

pytestmark = [pytest.mark.image, pytest.mark.integration]

INFER = "/sdxl/scribble-controlnet/infer"
GRACE_S = 130  # as in compose.yaml
# The volume is for background jobs.
STRICT = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--volume=/var/lib/fastapi-triton",
    "--cap-drop=all",
    "--shm-size=64m",
)


def scribble(name: str) -> dict[str, tuple[str, bytes, str]]:
    return {"image": (f"{name}.png", (ROOT / "demo" / "examples" / f"{name}.png").read_bytes(), "image/png")}


@pytest.fixture(scope="module")
def command(podman: Podman, frontend_image: str) -> list[str]:
    """The image's CMD, for a user without a home folder."""
    return ["env", "--unset=HOME", *podman.config(frontend_image)["Cmd"]]


@pytest.fixture
def triton_url(scribble_server: Server) -> str:
    return f"http://{scribble_server.triton_url.replace('127.0.0.1', HOST)}"


@pytest.fixture
def frontend(podman: Podman, frontend_image: str, command: list[str], triton_url: str) -> Iterator[Container]:
    with podman.running(frontend_image, *command, env={"TRITON_URL": triton_url}, options=STRICT) as container:
        container.wait_for("Ready: http")
        yield container


def test_image_serves_the_readmes_requests(frontend: Container) -> None:
    with httpx2.Client(base_url=frontend.url, timeout=120) as http:
        form = {"prompt": "a red house in the snow"}
        picture = http.post(INFER, data=form, files=scribble("house"), headers={"Accept": "image/png"})
        assert picture.status_code == 200, picture.text
        assert Image.open(io.BytesIO(picture.content)).format == "PNG"
        form = {"prompt": "a yellow star at night", "seed": "7"}
        events = http.post(INFER, data=form, files=scribble("star"), headers={"Accept": "text/event-stream"})
        kinds = [line.removeprefix("event: ") for line in events.text.splitlines() if line.startswith("event: ")]
        assert kinds[-1] == "completed"
        assert "progress" in kinds
        job = http.post(INFER, data=form, files=scribble("star"), headers={"Prefer": "respond-async"})
        assert job.status_code == 202, job.text
        assert "swagger" in http.get("/docs").text
        assert "<canvas" in http.get("/").text
        assert http.get("/models").status_code == 404  # generated endpoints are off
    frontend.check_health()


def test_container_has_no_rights_that_it_does_not_need(frontend: Container) -> None:
    status = dict(line.split(":\t", 1) for line in frontend.exec("cat", "/proc/1/status").splitlines())
    assert status["Uid"].split()[0] == "1000"
    assert int(status["CapEff"], 16) == 0
    assert "HOME=" not in frontend.exec("cat", "/proc/1/environ")
    script = "touch /app/file || touch /tmp/file || touch /home/app/file || df --output=size /dev/shm"
    assert frontend.exec("sh", "-c", script).split()[-1] == "65536"  # KiB; no file could be written


def test_stopping_waits_for_running_requests(frontend: Container) -> None:
    answers: list[str] = []

    def draw() -> None:
        form = {"prompt": "a red house", "num_inference_steps": "50"}
        headers = {"Accept": "text/event-stream"}
        with httpx2.stream(
            "POST", frontend.url + INFER, data=form, files=scribble("house"), headers=headers, timeout=120
        ) as events:
            for line in events.iter_lines():
                answers.append(line)
                if line == "event: progress":
                    has_begun.set()

    has_begun = threading.Event()
    client = threading.Thread(target=draw)
    client.start()
    assert has_begun.wait(60)
    assert frontend.stop(GRACE_S) == 0, frontend.log
    client.join(60)
    assert "event: completed" in answers
    assert "1 are running" in frontend.log


def test_port_in_use_is_one_sentence(podman: Podman, frontend_image: str) -> None:
    script = (
        "import socket, subprocess; taken = socket.create_server(('0.0.0.0', 8080)); "
        f"done = subprocess.run({podman.config(frontend_image)['Cmd']}, capture_output=True, text=True); "
        "print(done.returncode, done.stdout, done.stderr)"
    )
    printed = podman.run(frontend_image, "python", "-c", script)
    assert printed.startswith("2 ")
    assert "Port 8080 on 0.0.0.0 is in use" in printed


def test_image_has_nothing_but_what_it_serves(podman: Podman, frontend_image: str, stand_in_python: str) -> None:
    packages = json.loads(podman.run(frontend_image, "pip", "list", "--format=json"))
    names = {package["name"].lower() for package in packages}
    assert {"fastapi-triton", "dbos", "uvicorn"} <= names
    assert names.isdisjoint({"torch", "diffusers", "transformers", "nvidia-pytriton", "pytest"})
    assert set(podman.run(frontend_image, "ls", "-A", "/app").split()) == {
        "LICENSE", "README.md", "demo", "main.py", "pyproject.toml", "requirements.txt", "scripts", "src",
    }  # fmt: skip
    assert podman.megabytes(frontend_image) - podman.megabytes(stand_in_python) < 350
