# SPDX-License-Identifier: Apache-2.0
"""The container files, checked without a container engine. tests/images builds and starts the images."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_project import compose_config

from fastapi_triton.core.settings import Settings, variable
from support.paths import ROOT

TRITON = ROOT / "deploy" / "triton"
PAGE = ROOT / "docs" / "deploy.md"


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """`(INSTRUCTION, arguments)` for each instruction of the first stage, with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    pairs = (line.strip().partition(" ") for line in lines if line.strip())
    found = [(keyword, " ".join(rest.split())) for keyword, _, rest in pairs]
    stages = [index for index, (keyword, _) in enumerate(found) if keyword == "FROM"]
    return found[: [*stages, len(found)][1]]


def values(dockerfile: Path, keyword: str) -> list[str]:
    return [rest for found, rest in instructions(dockerfile) if found == keyword]


def copied(dockerfile: Path) -> list[tuple[str, str]]:
    """`(source, target)` of every COPY."""
    found = []
    for rest in values(dockerfile, "COPY"):
        *sources, target = [word for word in rest.split() if not word.startswith("--")]
        found += [(source, target) for source in sources]
    return found


def pins(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return compose_config(ROOT / "compose.yaml")


def test_frontend_image_follows_the_five_steps() -> None:
    found = instructions(ROOT / "Dockerfile")
    assert found[0] == ("FROM", "python:3.11-slim AS frontend")
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


def test_default_target_is_the_frontend() -> None:
    assert (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()[-1] == "FROM frontend"


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
    if file.parent == ROOT:  # only Triton needs numpy 1
        different.pop("numpy", None)
    assert different == {}


def test_page_names_the_release_of_the_triton_image() -> None:
    (image,) = values(TRITON / "Dockerfile", "FROM")
    page = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"nvcr\.io/nvidia/tritonserver:\S+", page)) == {image}
    release = image.partition(":")[2].removesuffix("-py3")
    assert f"never with release {release}" in page


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
    assert (triton["context"], frontend["context"]) == (str(ROOT), str(ROOT))
    assert f"AS {frontend['target']}" in values(ROOT / "Dockerfile", "FROM")[0]
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
