# SPDX-License-Identifier: Apache-2.0
"""`deploy/ec2/`, as far as it can be held without AWS: against AWS's own schemas, a stand-in for it, Ray, and the code.

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

from fastapi_triton.core.settings import Settings
from support.paths import ROOT

PAGE = (ROOT / "docs" / "ec2.md").read_text(encoding="utf-8")
TEMPLATES = ("machine", "fleet", "balancer")


# --- the templates ---


@pytest.mark.parametrize("name", TEMPLATES)
def test_cfn_lint_has_nothing_to_say(name: str) -> None:
    """It knows CloudFormation's own schemas of all resources, policies included."""
    assert [str(match) for match in lint_file(EC2 / f"{name}.yaml", config=ManualArgs(regions=[REGION]))] == []


def doors(name: str) -> set[tuple[str, str, int | None, str, str | None]]:
    """`(group, protocol, port, from whom, if)` of everything that the template's security groups let in."""
    found = set()
    for key, resource in template(name)["Resources"].items():
        properties = resolved(resource.get("Properties", {}), {})
        rules = [{"GroupId": key, **each} for each in properties.get("SecurityGroupIngress", [])]
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress":
            rules = [properties]
        for rule in rules:
            who = rule.get("CidrIp") or rule["SourceSecurityGroupId"]
            group = rule["GroupId"].removesuffix(".GroupId")
            found.add(
                (
                    group,
                    rule["IpProtocol"],
                    rule.get("FromPort"),
                    who.removesuffix(".GroupId"),
                    resource.get("Condition"),
                )
            )
            assert rule.get("FromPort") == rule.get("ToPort")
    return found


def test_every_door_is_one_that_the_page_tells_of() -> None:
    assert doors("machine") == {("Group", "tcp", 8080, "Callers", "HasCallers")}
    assert doors("fleet") == {
        ("Nodes", "-1", None, "Nodes", None),
        ("Front", "tcp", 22, "Admin", None),
        ("Front", "tcp", 8080, "Callers", "HasCallers"),
    }
    assert doors("balancer") == {("Front", "tcp", 443, "Callers", None), ("Group", "tcp", 8080, "Front", None)}


@pytest.mark.parametrize("name", ["machine", "fleet"])
def test_nobody_calls_unless_somebody_is_named(name: str) -> None:
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
def test_of_the_bucket_they_may_read_what_they_need(name: str) -> None:
    page = (ROOT / "docs" / "models-from-s3.md").read_text(encoding="utf-8")
    (documented,) = re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL)
    wanted = json.loads(documented.replace("arn:aws:s3:::my-bucket", "BUCKET"))["Statement"]
    text = json.dumps([each for each in statements(template(name)) if "s3:" in str(each["Action"])])
    told = json.loads(re.sub(r'{"Sub": "arn:\$\{AWS::Partition\}:s3:::\$\{Bucket\}([^"]*)"}', r'"BUCKET\1"', text))
    wanted[1]["Resource"] = [wanted[1]["Resource"], "BUCKET/app.tar.gz", "BUCKET/keys.toml"]
    assert told == wanted


@pytest.mark.parametrize("name", ["machine", "fleet"])
def test_rights_over_everything_are_rights_to_look_or_to_be_reached(name: str) -> None:
    for statement in statements(template(name)):
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        assert all("*" not in action for action in actions)
        if statement["Resource"] == "*":
            assert all(re.match(r"ssmmessages:|ssm:Update|ec2:Describe", action) for action in actions), actions


def test_the_rights_are_documents_that_iam_takes(aws: None) -> None:
    iam = boto3.client("iam")
    names = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": "123456789012", "Bucket": BUCKET}
    names["WorkerRole.Arn"] = "arn:aws:iam::123456789012:role/worker"
    for name in ("machine", "fleet"):
        for number, statement in enumerate(resolved(statements(template(name)), names)):
            document = {"Version": "2012-10-17", "Statement": [statement]}
            iam.create_policy(PolicyName=f"{name}-{number}", PolicyDocument=json.dumps(document))
    assert len(iam.list_policies(Scope="Local")["Policies"]) == 11


# --- what the machine runs ---


def user_data(folder: Path) -> str:
    """As cloud-init gets it, but in another folder than the machine's."""
    source = template("machine")["Resources"]["Machine"]["Properties"]["UserData"]["Fn::Base64"]["Sub"]
    text = source.replace("${Bucket}", BUCKET).replace("${AWS::Region}", REGION)
    assert "${" not in text
    return str(text.replace("/opt/fastapi-triton", str(folder)))


def dot_env(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", text, flags=re.MULTILINE))


def test_the_machines_first_start_brings_app_and_keys_and_starts_the_containers(cloud: Path) -> None:
    home = cloud / "opt"
    subprocess.run(["/bin/bash", "-c", user_data(home)], check=True, cwd="/", timeout=60)
    assert (home / "keys" / "keys.toml").read_text() == "[keys.me]\n"
    assert (home / "keys" / "keys.toml").stat().st_mode & 0o777 == 0o644  # the frontend is not root
    assert calls(cloud, "docker") == ["docker compose up --build --detach", "docker image prune --force"]
    variables = dot_env((home / ".env").read_text())
    for file in variables["COMPOSE_FILE"].split(":"):
        assert (home / file).is_file()


def test_an_update_takes_what_is_new_in_the_bucket(cloud: Path) -> None:
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
    assert f"There are no API keys at s3://{BUCKET}/keys.toml: make some" in done.stderr
    assert calls(cloud, "docker") == []


def test_what_does_not_start_shows_its_logs(cloud: Path) -> None:
    stand_in(cloud / "bin", "docker", '[ "$2" != up ]')
    done = subprocess.run(["/bin/bash", "-c", user_data(cloud / "opt")], cwd="/", timeout=60)
    assert done.returncode == 1
    assert calls(cloud, "docker")[-1] == "docker compose logs --tail 50"


def test_the_machines_variables_are_ones_that_compose_hands_on(tmp_path: Path) -> None:
    variables = dot_env(user_data(tmp_path))
    services = compose("compose.yaml")
    known = {name for service in services.values() for name in service["environment"]}
    assert variables.keys() - {"COMPOSE_FILE", "BUCKET"} <= known
    assert variables["MODEL_REPOSITORY"] == f"s3://{BUCKET}/models"
    # Longer than the balancer keeps a connection, which is longer than a request may take.
    (idle,) = [
        int(each["Value"])
        for each in template("balancer")["Resources"]["Balancer"]["Properties"]["LoadBalancerAttributes"]
        if each["Key"] == "idle_timeout.timeout_seconds"
    ]
    assert Settings().request_timeout_s < idle < float(variables["FASTAPI_TRITON_IDLE_TIMEOUT_S"])
    assert idle < serve_file()["http_options"]["keep_alive_timeout_s"]


def test_the_keys_are_mounted_where_the_frontend_looks(tmp_path: Path) -> None:
    keys = Path(dot_env(user_data(tmp_path))["FASTAPI_TRITON_API_KEYS_FILE"])
    added = compose("deploy/ec2/compose.yaml")
    assert added.keys() == compose("compose.yaml").keys()
    assert added["frontend"]["volumes"] == [f"./keys:{keys.parent}:ro"]


# --- the page ---


def page_commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def test_the_pages_aws_commands_are_ones_that_aws_has() -> None:
    """Against botocore, which the command line is made from."""
    session = botocore.session.get_session()
    checked = 0
    for line in page_commands():
        for service, operation, rest in re.findall(r"\baws (?!s3 |\w+ deploy)([\w-]+) ([\w-]+)([^|)]*)", line):
            model = session.get_service_model(service)
            known = {botocore.xform_name(name, "-"): name for name in model.operation_names}
            shape = model.operation_model(known[operation]).input_shape
            flags = {botocore.xform_name(name, "-") for name in shape.members} | {"query", "output", "region"}
            assert set(re.findall(r"(?<= --)[\w-]+", rest)) <= flags, line
            checked += 1
    assert checked > 10


def test_the_pages_templates_take_the_parameters_that_it_gives() -> None:
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


def test_every_block_of_the_page_is_one_to_bash() -> None:
    for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL):
        subprocess.run(["/bin/bash", "-n", "-c", block], check=True)


def test_the_pages_budget_is_one_that_aws_takes() -> None:
    (budget,) = re.findall(r"--budget '(.*?)'", PAGE, flags=re.DOTALL)
    (told,) = re.findall(r"--notifications-with-subscribers '(.*?)'", PAGE, flags=re.DOTALL)
    model = botocore.session.get_session().get_service_model("budgets").operation_model("CreateBudget")
    given = {
        "AccountId": "123456789012",
        "Budget": json.loads(budget),
        "NotificationsWithSubscribers": json.loads(told),
    }
    assert not ParamValidator().validate(given, model.input_shape).has_errors()
