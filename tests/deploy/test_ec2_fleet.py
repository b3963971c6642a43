# SPDX-License-Identifier: Apache-2.0
"""The fleet of `deploy/ec2/`: the setup of its nodes, and its files compared with each other and with Ray."""

import re
import subprocess
import tomllib
from pathlib import Path

import boto3
import pytest
from ec2_files import BUCKET, calls, compose, ray_file, resolved, serve_file, template

from fastapi_triton.core.settings import Settings, variable
from fastapi_triton.serving.ray_serve.options import ClusterOptions
from support.paths import ROOT

EXTRAS = {"head": "cluster,s3", "worker": "cluster,embedded,s3"}


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_node_setup_installs_what_its_kind_needs(kind: str, cloud: Path) -> None:
    srv = cloud / "srv"
    for command in (*ray_file()["setup_commands"], *ray_file()[f"{kind}_setup_commands"]):
        here = command.replace("/srv/", f"{srv}/").replace("MY-BUCKET", BUCKET)
        subprocess.run(["/bin/bash", "-c", here], check=True, timeout=60)
    assert calls(cloud, "setup") == [f"setup {EXTRAS[kind]} python3.12"]
    shell = subprocess.run(
        ["/bin/bash", "-c", "source ~/.bashrc; echo $RAY_AUTH_MODE ${PATH%%:*}"], capture_output=True, text=True
    )
    assert shell.stdout.split() == ["token", f"{srv}/app/.venv/bin"]
    if kind == "head":
        assert (srv / "keys" / "keys.toml").read_text() == "[keys.me]\n"
    else:
        assert (srv / "models").readlink() == Path("/the/models")
        (downloaded,) = calls(cloud, "python")
        assert (
            downloaded
            == f"python -m fastapi_triton.embedded.s3_repository s3://{BUCKET}/models --models-cache {srv}/cache/models"
        )


def test_extras_exist_in_the_package() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {extra for extras in EXTRAS.values() for extra in extras.split(",")} <= known.keys()


def test_serve_config_fits_the_app_and_the_nodes() -> None:
    (application,) = serve_file()["applications"]
    options = ClusterOptions.model_validate(application["args"])
    assert options.settings.keys() <= set(map(variable, Settings.model_fields))
    assert (options.folder, options.models) == ("/srv/app", "/srv/models")
    assert options.frontend_settings.api_keys_file == "/srv/keys/keys.toml"
    assert options.frontend_settings.max_in_flight * options.frontends >= options.max_replicas * (
        options.max_in_flight_per_triton
    )
    fleet = ray_file()
    worker, head = fleet["available_node_types"]["worker"], fleet["available_node_types"]["head"]
    # A worker has room for one Triton only; the frontends fit on the head.
    assert worker["resources"] == {"CPU": options.cpus_per_triton, "GPU": options.gpus_per_triton}
    assert head["resources"]["CPU"] >= options.frontends
    assert fleet["max_workers"] == worker["max_workers"] == options.max_replicas
    assert worker["min_workers"] == options.min_replicas


def test_fleet_uses_the_same_checkpoint_as_compose() -> None:
    (_, start) = ray_file()["worker_start_ray_commands"]
    wanted = {
        name: value.partition("-")[2].rstrip("}")
        for name, value in compose("compose.yaml")["triton"]["environment"].items()
        if name.startswith("SDXL_")
    }
    assert dict(re.findall(r"(SDXL_\w+)=(\S+)", start)) == wanted


def test_bash_can_parse_every_command_of_the_fleet() -> None:
    commands = [command for key, value in ray_file().items() if key.endswith("_commands") for command in value]
    assert len(commands) == 8
    for command in commands:
        subprocess.run(["/bin/bash", "-n", "-c", command], check=True)


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_accepts_the_fleet_and_the_serve_config() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config
    from ray.serve.schema import ServeDeploySchema

    validate_config(prepare_config(ray_file()))
    assert ServeDeploySchema.model_validate(serve_file()).http_options.port == 8080


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_head_has_exactly_the_rights_that_rays_autoscaler_uses(
    aws: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own AWS provider starts and terminates a worker in moto, from the launch templates of the stack."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config

    monkeypatch.setenv("HOME", str(tmp_path))
    names = create_launch_templates()
    config = AWSNodeProvider.bootstrap_config(prepare_config(ray_file()))  # as on the user's machine
    assert (tmp_path / ".ssh" / "fastapi-triton.pem").is_file()

    provider = AWSNodeProvider(config["provider"], config["cluster_name"])  # as on the head
    used: set[str] = set()
    for client in (provider.ec2.meta.client, provider.ec2_fail_fast.meta.client):
        client.meta.events.register("before-call.ec2", lambda model, **_: used.add(f"ec2:{model.name}"))
    node = config["available_node_types"]["worker"]["node_config"]
    (worker,) = provider.create_node(node, {"ray-node-type": "worker"}, 1)
    assert provider.non_terminated_nodes({}) == [worker]
    provider.set_node_tags(worker, {"ray-node-status": "up-to-date"})
    (found,) = boto3.client("ec2").describe_instances(InstanceIds=[worker])["Reservations"][0]["Instances"]
    provider.terminate_nodes([worker])

    assert (found["InstanceType"], found["ImageId"]) == ("g6.xlarge", names["Image"])
    assert found["IamInstanceProfile"]["Arn"] == names["WorkerProfile.Arn"]
    assert [each["GroupId"] for each in found["SecurityGroups"]] == [names["Nodes.GroupId"]]
    assert {"Key": "ray-cluster-name", "Value": "fastapi-triton"} in found["Tags"]
    rights = template("fleet")["Resources"]["LaunchWorkers"]["Properties"]["PolicyDocument"]["Statement"]
    actions = [[each["Action"]] if isinstance(each["Action"], str) else each["Action"] for each in rights]
    assert {action for each in actions for action in each} == {*used, "iam:PassRole"}


def create_launch_templates() -> dict[str, str]:
    """Create the launch templates of fleet.yaml and their dependencies; returns the ids by the template's names."""
    ec2, iam = boto3.client("ec2"), boto3.client("iam")
    names = {"Image": ec2.describe_images()["Images"][0]["ImageId"], "AWS::StackName": "fastapi-triton-fleet"}
    for name in ("Nodes", "Front"):
        names[f"{name}.GroupId"] = ec2.create_security_group(GroupName=name, Description=name)["GroupId"]
    for name in ("HeadProfile", "WorkerProfile"):
        profile = iam.create_instance_profile(InstanceProfileName=name)
        names[f"{name}.Arn"] = profile["InstanceProfile"]["Arn"]
    for name in ("Head", "Worker"):
        ec2.create_launch_template(**resolved(template("fleet")["Resources"][name]["Properties"], names))
    return names


def test_heads_rights_are_for_the_clusters_name() -> None:
    assert template("fleet")["Parameters"]["Cluster"]["Default"] == ray_file()["cluster_name"]
