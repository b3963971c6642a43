# SPDX-License-Identifier: Apache-2.0
"""The rights that docs/models-from-s3.md asks for are enough, and each of them is needed. moto plays IAM, too."""

import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import settings
from store import BUCKET, Store

from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.fetch import fetch
from support.paths import ROOT

PAGE = ROOT / "docs" / "models-from-s3.md"
URL = f"s3://{BUCKET}/models"


@pytest.fixture
def policy() -> dict[str, Any]:
    """As the page has it; moto does not know the prefix of a list request."""
    (found,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    policy: dict[str, Any] = json.loads(found)
    assert policy["Statement"][0].pop("Condition") == {"StringLike": {"s3:prefix": "models/*"}}
    return policy


def use(store: Store, policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on whoever asks is a user with this policy alone."""
    iam = boto3.client(
        "iam", endpoint_url=store.url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    iam.create_user(UserName="models")
    iam.put_user_policy(UserName="models", PolicyName="read", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="models")["AccessKey"]
    iam.close()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)


@pytest.fixture
def models(store: Store) -> Store:
    store.put("models/echo/config.pbtxt", "name: 'echo'")
    store.put("models/echo/1/model.py", "")
    return store


def test_the_documented_policy_is_enough(
    models: Store, cache: Path, policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(models, policy, monkeypatch)
    with fetch(URL, cache=cache) as snapshot:
        assert (snapshot.models / "echo" / "config.pbtxt").is_file()


@pytest.mark.parametrize(("number", "right"), [(0, "s3:ListBucket"), (1, "s3:GetObject")])
def test_a_missing_right_is_named(
    models: Store, cache: Path, policy: dict[str, Any], number: int, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del policy["Statement"][number]
    use(models, policy, monkeypatch)
    with pytest.raises(S3ModelsError, match=f"they need {right} on arn:aws:s3:::{BUCKET}"):
        fetch(URL, cache=cache)


@pytest.mark.parametrize(
    ("variable", "code"),
    [("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch")],
)
def test_wrong_keys_are_named(
    models: Store, cache: Path, policy: dict[str, Any], variable: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(models, policy, monkeypatch)
    monkeypatch.setenv(variable, "A" * 20)
    with pytest.raises(S3ModelsError, match=rf"credentials in use are refused for {URL} \({code}"):
        fetch(URL, cache=cache)
