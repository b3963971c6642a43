# SPDX-License-Identifier: Apache-2.0
"""The container files, checked without a container engine.

The tests assemble the frontend image's content from the same Dockerfile lines: copied paths, pinned packages, command.
No image is built; docs/deploy.md says so.
"""

import fnmatch
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastapi_triton.core.settings import Settings, variable
from support.paths import ROOT

TRITON = ROOT / "deploy" / "triton"
PAGE = ROOT / "docs" / "deploy.md"


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """`(INSTRUCTION, arguments)` for each instruction, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    pairs = (line.strip().partition(" ") for line in lines if line.strip())
    return [(keyword, " ".join(rest.split())) for keyword, _, rest in pairs]


def values(dockerfile: Path, keyword: str) -> list[str]:
    return [rest for found, rest in instructions(dockerfile) if found == keyword]


def copied(dockerfile: Path) -> list[tuple[str, str]]:
    """`(source, target)` of every COPY."""
    found = []
    for rest in values(dockerfile, "COPY"):
        *sources, target = [word for word in rest.split() if not word.startswith("--")]
        found += [(source, target) for source in sources]
    return found


def is_ignored(path: str, ignore_file: Path) -> bool:
    """Docker's rule, for the patterns that our file has: the last one that matches the path or a parent folder wins."""
    ignored = False
    patterns = [line.strip() for line in ignore_file.read_text(encoding="utf-8").splitlines()]
    for pattern in patterns:
        if not pattern or pattern.startswith("#"):
            continue
        plain = pattern.lstrip("!")
        parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
        if plain.startswith("**/"):
            names = {Path(parent).name for parent in parents}
            hit = any(fnmatch.fnmatchcase(name, plain.removeprefix("**/")) for name in names)
        else:
            hit = any(fnmatch.fnmatchcase(parent, plain) for parent in parents)
        if hit:
            ignored = not pattern.startswith("!")
    return ignored


def pins(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("folder", [ROOT, TRITON])
def test_copied_paths_exist_and_reach_the_builder(folder: Path) -> None:
    sources = [source for source, _ in copied(folder / "Dockerfile")]
    assert sources
    for source in sources:  # both images are built from the root
        assert (ROOT / source).exists(), source
        assert not is_ignored(source, ROOT / ".dockerignore"), source


@pytest.mark.parametrize(
    "path", [".git", ".venv/bin/python", "models", "tests/deploy/test_docker.py", "demo", "src/__pycache__"]
)
def test_ignored_paths_are_not_in_the_image(path: str) -> None:
    assert is_ignored(path, ROOT / ".dockerignore")


def test_frontend_image_follows_the_five_steps() -> None:
    found = instructions(ROOT / "Dockerfile")
    assert found[0] == ("FROM", "python:3.11-slim")
    assert ("WORKDIR", "/app") in found
    assert ("RUN", "pip install --no-cache-dir -r requirements.txt") in found
    assert ("COPY", "main.py ./") in found
    command = json.loads(values(ROOT / "Dockerfile", "CMD")[-1])
    assert command == ["fastapi-triton", "serve", "--host", "0.0.0.0", "--port", "8080"]


@pytest.mark.parametrize("folder", [ROOT, TRITON])
def test_images_do_not_run_as_root(folder: Path) -> None:
    keywords = [keyword for keyword, _ in instructions(folder / "Dockerfile")]
    (user,) = values(folder / "Dockerfile", "USER")
    assert user not in ("root", "0")
    assert "RUN" not in keywords[keywords.index("USER") :]


def test_dependencies_are_a_layer_below_the_code() -> None:
    lines = instructions(ROOT / "Dockerfile")
    dependencies = lines.index(("RUN", "pip install --no-cache-dir -r requirements.txt"))
    assert [rest for keyword, rest in lines[:dependencies] if keyword == "COPY"] == ["requirements.txt ./"]


def test_slim_image_pins_no_model_packages() -> None:
    names = {name.lower() for name in pins(ROOT / "requirements.txt")}
    assert "uvicorn" in names
    assert names.isdisjoint({"torch", "diffusers", "transformers", "nvidia-pytriton", "pytest", "fastapi-triton"})


@pytest.mark.parametrize("file", [ROOT / "requirements.txt", TRITON / "requirements.txt"])
def test_images_use_the_tested_versions(file: Path) -> None:
    tested = pins(ROOT / "constraints.txt")
    different = {name: version for name, version in pins(file).items() if tested.get(name) != version}
    # Only the embedded Triton needs numpy 1.
    different.pop("numpy", None)
    assert different == {}


@pytest.mark.parametrize(
    "file",
    [ROOT / "requirements.txt", ROOT / "constraints.txt", TRITON / "requirements.txt"],
    ids=lambda file: file.name,
)
def test_pins_are_exact_and_name_no_index(file: Path) -> None:
    for line in file.read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line), line


def test_triton_image_has_the_part_of_the_package_that_downloads_models() -> None:
    opt = "/opt/fastapi-triton"
    assert {
        ("src/fastapi_triton/embedded/s3_repository", f"{opt}/fastapi_triton/embedded/s3_repository"),
        ("deploy/triton/s3_models.py", f"{opt}/"),
        ("deploy/triton/entrypoint.sh", f"{opt}/"),
    } <= set(copied(TRITON / "Dockerfile"))
    assert {"boto3", "awscrt"} <= pins(TRITON / "requirements.txt").keys()


def test_both_services_build_from_dockerfiles_that_exist(compose: dict[str, Any]) -> None:
    triton, frontend = compose["services"]["triton"]["build"], compose["services"]["frontend"]["build"]
    assert (triton["context"], frontend) == (".", ".")
    assert ROOT / triton["dockerfile"] == TRITON / "Dockerfile"
    assert (TRITON / "Dockerfile").is_file()
    assert (ROOT / "Dockerfile").is_file()


def test_frontend_starts_when_triton_is_ready_and_has_its_url(compose: dict[str, Any]) -> None:
    triton, frontend = compose["services"]["triton"], compose["services"]["frontend"]
    assert frontend["depends_on"] == {"triton": {"condition": "service_healthy"}}
    assert frontend["environment"]["TRITON_URL"] == "http://triton:8000"
    assert triton["healthcheck"]["test"][-1] == "http://localhost:8000/v2/health/ready"
    assert triton["healthcheck"]["start_period"] == "30m"
    assert "8000" in values(TRITON / "Dockerfile", "EXPOSE")[0].split()


def test_published_port_is_the_port_that_the_image_serves(compose: dict[str, Any]) -> None:
    (published,) = compose["services"]["frontend"]["ports"]
    port = json.loads(values(ROOT / "Dockerfile", "CMD")[-1])[-1]
    assert published.endswith(f":{port}")
    assert values(ROOT / "Dockerfile", "EXPOSE") == [port]
    assert f"127.0.0.1:{port}/health/live" in values(ROOT / "Dockerfile", "HEALTHCHECK")[0]


def test_tritons_ports_are_published_on_loopback_only(compose: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in compose["services"]["triton"]["ports"])


def test_triton_gets_a_gpu_the_models_and_persistent_caches(compose: dict[str, Any]) -> None:
    triton = compose["services"]["triton"]
    (device,) = triton["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    mounts = dict(volume.split(":")[:2] for volume in triton["volumes"])
    assert (ROOT / next(iter(mounts))).resolve() == (ROOT / "models")
    assert (ROOT / "models" / "sdxl_scribble_controlnet" / "config.pbtxt").is_file()
    environment = dict(re.findall(r"(\w+)=(\S+)", " ".join(values(TRITON / "Dockerfile", "ENV"))))
    assert mounts["./models"] == environment["MODEL_REPOSITORY"]
    assert mounts["hub-cache"] == environment["HF_HOME"]
    assert mounts["models-cache"] == environment["FASTAPI_TRITON_MODELS_CACHE"]
    assert set(compose["volumes"]) == {"hub-cache", "models-cache", "jobs"}


def test_model_parameters_include_the_variables_that_compose_sets(compose: dict[str, Any]) -> None:
    config = (ROOT / "models" / "sdxl_scribble_controlnet_stream" / "config.pbtxt").read_text(encoding="utf-8")
    parameters = {f"SDXL_{name.upper()}" for name in re.findall(r'parameters\s*{\s*key:\s*"(\w+)"', config)}
    given = {name for name in compose["services"]["triton"]["environment"] if name.startswith("SDXL_")}
    assert given == {"SDXL_CHECKPOINT", "SDXL_CONTROLNET", "SDXL_VAE"}
    assert given <= parameters


def test_compose_passes_every_setting_to_the_frontend(compose: dict[str, Any]) -> None:
    given = compose["services"]["frontend"]["environment"]
    image = dict(line.split("=") for line in values(ROOT / "Dockerfile", "ENV"))
    for name in given.keys() - {"TRITON_URL"}:
        assert given[name] is None or re.fullmatch(rf"\$\{{{name}:?-{re.escape(image[name])}\}}", given[name]), name
    assert given.keys() == {variable(field) for field in Settings.model_fields}


def test_compose_keeps_the_images_own_values(compose: dict[str, Any]) -> None:
    given = compose["services"]["frontend"]["environment"]
    own = {line.split("=")[0] for line in values(ROOT / "Dockerfile", "ENV")} & given.keys()
    assert own == {"TRITON_URL", "FASTAPI_TRITON_JOBS_FOLDER", "FASTAPI_TRITON_GENERATE"}
    # Compose can remove a variable that it passes on without a value.
    assert all(given[name] is not None for name in own)


def test_container_has_more_time_to_stop_than_requests_have_to_finish(compose: dict[str, Any]) -> None:
    grace = float(compose["services"]["frontend"]["stop_grace_period"].removesuffix("s"))
    settings = {name: Settings.model_fields[name].default for name in ("shutdown_delay_s", "shutdown_grace_s")}
    assert grace > sum(settings.values())


def test_deployment_of_the_page_probes_the_frontend_and_outlives_its_shutdown() -> None:
    (block,) = re.findall(r"```yaml\n(apiVersion: apps/v1\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    pod = yaml.safe_load(block)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment.keys() <= {variable(field) for field in Settings.model_fields}
    (port,) = (entry["containerPort"] for entry in container["ports"])
    assert [str(port)] == values(ROOT / "Dockerfile", "EXPOSE")
    assert container["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": port}
    assert container["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": port}
    delay_s = float(environment[variable("shutdown_delay_s")])
    assert pod["terminationGracePeriodSeconds"] > delay_s + Settings.model_fields["shutdown_grace_s"].default


def test_docker_compose_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker client with the compose plugin here")
    done = subprocess.run(
        [docker, "compose", "-f", str(ROOT / "compose.yaml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# --- the frontend image's content, assembled without a container engine ---


@contextmanager
def served(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def copy_image_content(app: Path) -> None:
    """COPY as the builder does: the content of a folder into the target, a file into a target that ends in `/`."""
    for source, target in copied(ROOT / "Dockerfile"):
        if (ROOT / source).is_dir():
            shutil.copytree(
                ROOT / source, app / target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
            )
        else:
            assert target.endswith("/")
            (app / target).mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, app / target)


@pytest.mark.slow
def test_copied_files_and_pinned_packages_serve_the_app(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    copy_image_content(app)
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    bin_folder = environment / "bin"
    # The image has one Python; here `pip` and `python` are the virtual environment's.
    paths = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PIP_NO_COMPILE": "1"}
    paths.pop("PYTHONPATH", None)
    for command in values(ROOT / "Dockerfile", "RUN"):
        if command.startswith("pip "):
            done = subprocess.run(
                command.replace("--no-cache-dir ", "").split(),
                cwd=app,
                env=paths,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr

    listed = subprocess.run(
        [str(bin_folder / "pip"), "list", "--format=json"], env=paths, capture_output=True, text=True, check=True
    )
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert "fastapi-triton" in names
    assert names.isdisjoint({"torch", "diffusers", "transformers", "accelerate", "nvidia-pytriton"})

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    program, *arguments = json.loads(values(ROOT / "Dockerfile", "CMD")[-1])
    arguments = [port if argument == "8080" else argument.replace("0.0.0.0", "127.0.0.1") for argument in arguments]
    paths |= dict(line.split("=") for line in values(ROOT / "Dockerfile", "ENV"))
    paths["FASTAPI_TRITON_JOBS_FOLDER"] = str(tmp_path / "jobs")
    # Nothing listens on port 9, so there is no Triton.
    paths["TRITON_URL"] = "http://127.0.0.1:9"
    with served([str(bin_folder / program), *arguments], app, paths) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "Uvicorn running on" in line:
                break
        else:
            pytest.fail("".join(printed))
        assert status_of(f"http://127.0.0.1:{port}/health/live") == 200
        assert status_of(f"http://127.0.0.1:{port}/health/ready") == 503
        assert status_of(f"http://127.0.0.1:{port}/models") == 404  # generated endpoints are off
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=30) as response:
            assert "/jobs/{job_id}" in json.load(response)["paths"]
        # The image's own health check, on the port of this test.
        check = json.loads(values(ROOT / "Dockerfile", "HEALTHCHECK")[0].partition("CMD ")[2])
        check = [argument.replace("8080", port) for argument in check]
        subprocess.run([str(bin_folder / check[0]), *check[1:]], check=True, timeout=30)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        process.communicate(timeout=20)
        assert time.monotonic() - started < 10
        assert process.returncode == 0
