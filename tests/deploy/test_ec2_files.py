# SPDX-License-Identifier: Apache-2.0
"""`deploy/ec2/`, compared with AWS's schemas, with stand-ins for AWS, with the code, and with docs/ec2.md.

Nothing here runs on EC2; docs/ec2.md says so.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.validate import ParamValidator
from cfnlint.api import ManualArgs, lint_file
from ec2_files import BUCKET, EC2, REGION, calls, compose, resolved, serve_file, stand_in, template

from fastapi_triton.core.settings import Settings, variable
from support.paths import ROOT

PAGE = (ROOT / "docs" / "ec2.md").read_text(encoding="utf-8")
TEMPLATES = ("machine", "fleet", "balancer")


# --- the templates ---


@pytest.mark.parametrize("name", TEMPLATES)
def test_cfn_lint_finds_nothing(name: str) -> None:
    """cfn-lint has CloudFormation's schemas of all resources, with policies."""
    assert [str(match) for match in lint_file(EC2 / f"{name}.yaml", config=ManualArgs(regions=[REGION]))] == []


def open_ports(name: str) -> set[tuple[str, str, int | None, str, str | None]]:
    """`(group, protocol, port, source, condition)` of every ingress rule of the template."""
    found = set()
    for key, resource in template(name)["Resources"].items():
        properties = resolved(resource.get("Properties", {}), {})
        rules = [{"GroupId": key, **each} for each in properties.get("SecurityGroupIngress", [])]
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress":
            rules = [properties]
        for rule in rules:
            source = rule.get("CidrIp") or rule["SourceSecurityGroupId"]
            group = rule["GroupId"].removesuffix(".GroupId")
            found.add(
                (
                    group,
                    rule["IpProtocol"],
                    rule.get("FromPort"),
                    source.removesuffix(".GroupId"),
                    resource.get("Condition"),
                )
            )
            assert rule.get("FromPort") == rule.get("ToPort")
    return found


def test_only_documented_ports_are_open() -> None:
    assert open_ports("machine") == {("Group", "tcp", 8080, "Callers", "HasCallers")}
    assert open_ports("fleet") == {
        ("Nodes", "-1", None, "Nodes", None),
        ("Front", "tcp", 22, "Admin", None),
        ("Front", "tcp", 8080, "Callers", "HasCallers"),
    }
    assert open_ports("balancer") == {("Front", "tcp", 443, "Callers", None), ("Group", "tcp", 8080, "Front", None)}


@pytest.mark.parametrize("name", ["machine", "fleet"])
def test_port_8080_is_closed_without_callers(name: str) -> None:
    assert template(name)["Parameters"]["Callers"]["Default"] == ""
    assert template(name)["Conditions"]["HasCallers"] == {"Not": [{"Equals": [{"Ref": "Callers"}, ""]}]}


def statements(template: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        documents = [each["PolicyDocument"] for each in properties.get("Policies", [])]
        documents += [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
        found += [statement for document in documents for statement in document["Statement"]]
    return found


@pytest.mark.parametrize("name", ["machine", "fleet"])
def test_bucket_rights_are_the_documented_ones_plus_app_and_keys(name: str) -> None:
    page = (ROOT / "docs" / "models-from-s3.md").read_text(encoding="utf-8")
    (documented,) = re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL)
    wanted = json.loads(documented.replace("arn:aws:s3:::my-bucket", "BUCKET"))["Statement"]
    text = json.dumps([each for each in statements(template(name)) if "s3:" in str(each["Action"])])
    granted = json.loads(re.sub(r'{"Sub": "arn:\$\{AWS::Partition\}:s3:::\$\{Bucket\}([^"]*)"}', r'"BUCKET\1"', text))
    wanted[1]["Resource"] = [wanted[1]["Resource"], "BUCKET/app.tar.gz", "BUCKET/keys.toml"]
    assert granted == wanted


@pytest.mark.parametrize("name", ["machine", "fleet"])
def test_rights_over_all_resources_only_describe_or_open_sessions(name: str) -> None:
    for statement in statements(template(name)):
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        assert all("*" not in action for action in actions)
        if statement["Resource"] == "*":
            assert all(re.match(r"ssmmessages:|ssm:Update|ec2:Describe", action) for action in actions), actions


def test_iam_accepts_the_policies(aws: None) -> None:
    iam = boto3.client("iam")
    names = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": "123456789012", "Bucket": BUCKET}
    names["WorkerRole.Arn"] = "arn:aws:iam::123456789012:role/worker"
    for name in ("machine", "fleet"):
        for number, statement in enumerate(resolved(statements(template(name)), names)):
            document = {"Version": "2012-10-17", "Statement": [statement]}
            iam.create_policy(PolicyName=f"{name}-{number}", PolicyDocument=json.dumps(document))
    assert len(iam.list_policies(Scope="Local")["Policies"]) == 11


# --- scripts of the machine ---


def user_data(folder: Path) -> str:
    """The machine's user data as cloud-init gets it, but for another folder."""
    source = template("machine")["Resources"]["Machine"]["Properties"]["UserData"]["Fn::Base64"]["Sub"]
    text = source.replace("${Bucket}", BUCKET).replace("${AWS::Region}", REGION)
    assert "${" not in text
    return str(text.replace("/opt/fastapi-triton", str(folder)))


def dot_env(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", text, flags=re.MULTILINE))


def test_first_start_downloads_app_and_keys_and_starts_the_containers(cloud: Path) -> None:
    home = cloud / "opt"
    subprocess.run(["/bin/bash", "-c", user_data(home)], check=True, cwd="/", timeout=60)
    assert (home / "keys" / "keys.toml").read_text() == "[keys.me]\n"
    assert (home / "keys" / "keys.toml").stat().st_mode & 0o777 == 0o644  # the frontend is not root
    assert calls(cloud, "docker") == ["docker compose up --build --detach", "docker image prune --force"]
    variables = dot_env((home / ".env").read_text())
    for file in variables["COMPOSE_FILE"].split(":"):
        assert (home / file).is_file()


def test_update_downloads_changed_keys(cloud: Path) -> None:
    home = cloud / "opt"
    subprocess.run(["/bin/bash", "-c", user_data(home)], check=True, cwd="/", timeout=60)
    (cloud / BUCKET / "keys.toml").write_text("[keys.you]\n")
    subprocess.run([str(home / "deploy" / "ec2" / "update")], check=True, cwd="/", timeout=60)
    assert (home / "keys" / "keys.toml").read_text() == "[keys.you]\n"
    assert list((home / "keys").iterdir()) == [home / "keys" / "keys.toml"]


def test_without_keys_nothing_is_started(cloud: Path) -> None:
    (cloud / BUCKET / "keys.toml").unlink()
    done = subprocess.run(
        ["/bin/bash", "-c", user_data(cloud / "opt")], capture_output=True, text=True, cwd="/", timeout=60
    )
    assert done.returncode == 1
    assert f"s3://{BUCKET}/keys.toml could not be downloaded. Create API keys" in done.stderr
    assert calls(cloud, "docker") == []


def test_logs_are_printed_if_the_containers_do_not_start(cloud: Path) -> None:
    stand_in(cloud / "bin", "docker", '[ "$2" != up ]')
    done = subprocess.run(["/bin/bash", "-c", user_data(cloud / "opt")], cwd="/", timeout=60)
    assert done.returncode == 1
    assert calls(cloud, "docker")[-1] == "docker compose logs --tail 50"


def test_machines_variables_are_used(cloud: Path) -> None:
    home = cloud / "opt"
    subprocess.run(["/bin/bash", "-c", user_data(home)], check=True, cwd="/", timeout=60)
    assert dot_env((home / "triton.env").read_text()) == {"AWS_DEFAULT_REGION": REGION}
    variables = dot_env((home / ".env").read_text())
    known = {variable(field) for field in Settings.model_fields} | compose("compose.yaml")["triton"][
        "environment"
    ].keys()
    # docker compose and deploy/ec2/update read the others.
    assert variables.keys() - known == {"COMPOSE_FILE", "BUCKET", "AWS_DEFAULT_REGION"}
    assert variables["MODEL_REPOSITORY"] == f"s3://{BUCKET}/models"
    # The balancer waits longer than a request may take, and the frontend longer than the balancer.
    (idle,) = [
        int(each["Value"])
        for each in template("balancer")["Resources"]["Balancer"]["Properties"]["LoadBalancerAttributes"]
        if each["Key"] == "idle_timeout.timeout_seconds"
    ]
    assert Settings().request_timeout_s < idle < float(variables["FASTAPI_TRITON_IDLE_TIMEOUT_S"])
    assert idle < serve_file()["http_options"]["keep_alive_timeout_s"]


def test_keys_are_mounted_where_the_frontend_reads_them(tmp_path: Path) -> None:
    keys = Path(dot_env(user_data(tmp_path))["FASTAPI_TRITON_API_KEYS_FILE"])
    added = compose("deploy/ec2/compose.yaml")
    assert added.keys() == compose("compose.yaml").keys()
    assert added["frontend"]["volumes"] == [f"./keys:{keys.parent}:ro"]


# --- the page ---


def page_commands() -> list[str]:
    """The lines of all bash blocks, and the `aws` commands within sentences."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return lines + re.findall(r"`(aws [^`]+)`", PAGE)


def test_aws_commands_of_the_page_exist_with_their_flags() -> None:
    """Compared with botocore, from which the command line is made."""
    session = botocore.session.get_session()
    checked = 0
    for line in page_commands():
        for service, operation, rest in re.findall(r"\baws (?!s3 |\w+ deploy)([\w-]+) ([\w-]+)([^|)]*)", line):
            model = session.get_service_model(service)
            known = {botocore.xform_name(name, "-"): name for name in model.operation_names}
            shape = model.operation_model(known[operation]).input_shape
            flags = {botocore.xform_name(name, "-") for name in shape.members} | {
                "query",
                "output",
                "region",
                "cli-input-json",
            }
            assert set(re.findall(r"(?<= --)[\w-]+", rest)) <= flags, line
            checked += 1
    assert checked > 10


def test_templates_have_the_parameters_that_the_page_sets() -> None:
    checked = 0
    for line in page_commands():
        if "cloudformation deploy" in line:
            (path,) = re.findall(r"--template-file (\S+)", line)
            parameters = template(Path(path).stem)["Parameters"]
            given = set(re.findall(r"(\w+)=", line.partition("--parameter-overrides")[2]))
            assert (ROOT / path).parent == EC2
            assert given <= parameters.keys()
            checked += 1
    assert checked >= 3


def test_every_file_of_the_folder_is_on_the_page() -> None:
    for file in EC2.iterdir():
        assert f"deploy/ec2/{file.name}" in PAGE, file.name


def test_bash_can_parse_every_block_of_the_page() -> None:
    for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL):
        subprocess.run(["/bin/bash", "-n", "-c", block], check=True)


def test_aws_accepts_the_budget() -> None:
    budget = json.loads((EC2 / "budget.json").read_text(encoding="utf-8"))
    model = botocore.session.get_session().get_service_model("budgets").operation_model("CreateBudget")
    assert not ParamValidator().validate({"AccountId": "123456789012", **budget}, model.input_shape).has_errors()
