# SPDX-License-Identifier: Apache-2.0
"""The options of a cluster, and the errors for invalid ones."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from fastapi_triton.serving.ray_serve import gpus
from fastapi_triton.serving.ray_serve.options import ClusterOptions, OtherVersionError, Versions
from support.paths import ROOT


def test_the_arguments_of_the_serve_config_file_are_options() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "cluster" / "serve.yaml").read_text())
    (application,) = config["applications"]
    options = ClusterOptions.model_validate(application["args"])
    assert application["import_path"] == "fastapi_triton.serving.ray_serve.application:build"
    assert (options.gpus_per_triton, options.min_replicas, options.max_replicas) == (1, 1, 8)
    # The frontend admits more than the Tritons accept: the number of Tritons follows the waiting requests.
    assert options.frontend_settings.max_in_flight > options.max_in_flight_per_triton


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.parametrize("folder", ["cluster", "ec2"])
def test_ray_accepts_the_serve_config_file_and_its_import_path_builds_the_application(folder: str) -> None:
    from ray import serve
    from ray.serve.schema import ServeDeploySchema

    config = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "deploy" / folder / "serve.yaml").read_text()))
    assert config.http_options.port == 8080
    (application,) = config.applications
    build = pkgutil.resolve_name(application.import_path)
    assert isinstance(build(ClusterOptions.model_validate(application.args)), serve.Application)


def test_a_node_with_another_version_is_rejected_by_name() -> None:
    Versions.here().require_same(node="10.0.0.7")
    with pytest.raises(OtherVersionError, match=r"node 10\.0\.0\.7 .* Python is .* there, but 3\.9 on"):
        Versions(python="3.9", package=Versions.here().package).require_same(node="10.0.0.7")
    with pytest.raises(OtherVersionError, match=r"fastapi-triton is .* there, but 0\.0\.1 on"):
        Versions(python=Versions.here().python, package="0.0.1").require_same(node="10.0.0.7")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"min_replicas": 1}, "both"),
        ({"min_replicas": 3, "max_replicas": 2}, "more than"),
        ({"models": "models", "triton_url": "http://{node}:8000"}, "set only one"),
        ({"models": "s3://bucket/models"}, "must be a folder on every node"),
        ({"gpus": 1}, "Extra inputs"),
    ],
)
def test_contradicting_options_are_rejected(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ClusterOptions.model_validate(options)


def test_invalid_settings_are_rejected_before_anything_starts() -> None:
    with pytest.raises(ValidationError, match="max_in_flight"):
        _ = ClusterOptions(settings={"FASTAPI_TRITON_MAX_IN_FLIGHT": "none"}).frontend_settings


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")  # Ray's own
async def test_a_triton_without_its_gpu_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi_triton.serving.ray_serve.replica import NoGPUError, TritonReplica

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    replica = TritonReplica.__new__(TritonReplica)
    with pytest.raises(NoGPUError, match="no GPU for this Triton, but gpus_per_triton is 1"):
        await TritonReplica.__init__(replica, ClusterOptions(gpus_per_triton=1), 60.0)


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_gpu_that_only_ray_declares_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi_triton.serving.ray_serve import replica

    options = ClusterOptions(gpus_per_triton=1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(replica, "num_gpus", lambda: 0)
    with pytest.raises(replica.NoGPUError, match=r"on the node 10\.0\.0\.7 with a GPU .* its driver shows none"):
        replica.require_gpu(options, node="10.0.0.7")
    # The driver is not checked for a Triton in its own container, or without a GPU.
    replica.require_gpu(ClusterOptions(gpus_per_triton=1, triton_url="http://{node}:8000"), node="10.0.0.7")
    replica.require_gpu(ClusterOptions(), node="10.0.0.7")
    monkeypatch.setattr(replica, "num_gpus", lambda: 1)
    replica.require_gpu(options, node="10.0.0.7")


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(_: str) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(gpus.ctypes, "CDLL", no_library)
    assert gpus.num_gpus() == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--embedded", "--cluster", "2"], "Remove --embedded and --triton"),
        (["--triton", "http://gpu:8000", "--cluster", "2"], "Remove --embedded and --triton"),
        (["--workers", "2", "--cluster", "2"], "--workers works only without Ray"),
        (["--cluster", "0"], "greater than or equal to 1"),
    ],
)
def test_the_command_rejects_contradicting_flags(arguments: list[str], reason: str, tmp_path: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "fastapi_triton", "serve", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert completed.returncode == 2
    assert reason in completed.stderr
