# SPDX-License-Identifier: Apache-2.0
"""The variables that compose.yaml gives to the containers, from the files beside it and from the shell."""

import shutil
from pathlib import Path

import pytest
from compose_project import compose_config, container_environments

from fastapi_triton.core.settings import Settings, variable
from support.paths import ROOT


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """compose.yaml in a folder without .env, and a shell without variables of ours."""
    for name in (*map(variable, Settings.model_fields), "PORT", "MODEL_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    (tmp_path / "deploy" / "ec2").mkdir(parents=True)
    shutil.copy(ROOT / "deploy" / "ec2" / "compose.yaml", tmp_path / "deploy" / "ec2")
    return tmp_path


def environments(project: Path) -> dict[str, dict[str, str]]:
    return container_environments(project / "compose.yaml")


def test_without_files_the_containers_keep_the_defaults(project: Path) -> None:
    given = environments(project)
    assert given["frontend"] == {"TRITON_URL": "http://triton:8000"}
    assert given["triton"] == {
        "MODEL_REPOSITORY": "/models",
        "SDXL_CHECKPOINT": "stabilityai/stable-diffusion-xl-base-1.0",
        "SDXL_CONTROLNET": "xinsir/controlnet-scribble-sdxl-1.0",
        "SDXL_VAE": "madebyollin/sdxl-vae-fp16-fix",
    }


def test_every_setting_in_the_env_file_reaches_the_frontend(project: Path) -> None:
    settings = {variable(field): f"value of {field}" for field in Settings.model_fields}
    lines = [f"{name}={value}" for name, value in settings.items()]
    (project / ".env").write_text("\n".join(lines), encoding="utf-8")
    # In the compose network, Triton always has the same address.
    assert environments(project)["frontend"] == {**settings, "TRITON_URL": "http://triton:8000"}


def test_env_file_also_sets_the_variables_of_the_compose_file(project: Path) -> None:
    (project / ".env").write_text("PORT=9000\nMODEL_REPOSITORY=s3://bucket/models\nSDXL_VAE=\n", encoding="utf-8")
    given = environments(project)["triton"]
    assert (given["MODEL_REPOSITORY"], given["SDXL_VAE"]) == ("s3://bucket/models", "")
    assert compose_config(project / "compose.yaml")["services"]["frontend"]["ports"] == ["9000:8080"]


def test_shell_overrides_the_variables_of_the_compose_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".env").write_text("SDXL_CHECKPOINT=other\n", encoding="utf-8")
    monkeypatch.setenv("SDXL_CHECKPOINT", "demo_checkpoint")
    assert environments(project)["triton"]["SDXL_CHECKPOINT"] == "demo_checkpoint"


def test_secrets_of_triton_do_not_reach_the_frontend(project: Path) -> None:
    (project / ".env").write_text("FASTAPI_TRITON_JOBS_WEBHOOK_SECRET=webhook\n", encoding="utf-8")
    (project / "triton.env").write_text("AWS_SECRET_ACCESS_KEY=key\nHF_TOKEN=token\n", encoding="utf-8")
    given = environments(project)
    assert given["triton"].items() >= {"AWS_SECRET_ACCESS_KEY": "key", "HF_TOKEN": "token"}.items()
    assert given["frontend"].keys() == {"FASTAPI_TRITON_JOBS_WEBHOOK_SECRET", "TRITON_URL"}
    assert "FASTAPI_TRITON_JOBS_WEBHOOK_SECRET" not in given["triton"]


def test_file_of_the_ec2_machine_adds_to_compose(project: Path) -> None:
    services = compose_config(project / "compose.yaml", project / "deploy" / "ec2" / "compose.yaml")["services"]
    assert services["frontend"]["volumes"] == ["jobs:/var/lib/fastapi-triton", "./keys:/keys:ro"]
    assert all(service["logging"] == {"driver": "local"} for service in services.values())
