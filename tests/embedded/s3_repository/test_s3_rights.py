# SPDX-License-Identifier: Apache-2.0
"""The permissions in docs/models-from-s3.md are sufficient, and each of them is necessary. moto also simulates IAM."""

import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import settings

from fastapi_triton.embedded.s3_repository.errors import S3ModelsError
from fastapi_triton.embedded.s3_repository.fetch import fetch
from support.paths import ROOT
from support.s3_store import BUCKET, Store

PAGE = ROOT / "docs" / "models-from-s3.md"
URL = f"s3://{BUCKET}/models"


@pytest.fixture
def policy() -> dict[str, Any]:
    """The policy of the page, without its condition: moto does not know the prefix of a list request."""
    (found,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    policy: dict[str, Any] = json.loads(found)
    assert policy["Statement"][0].pop("Condition") == {"StringLike": {"s3:prefix": "models/*"}}
    return policy


def use(store: Store, policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all further requests as a user with only this policy."""
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


def test_the_documented_policy_is_sufficient(
    models: Store, cache: Path, policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(models, policy, monkeypatch)
    with fetch(URL, cache=cache) as snapshot:
        assert (snapshot.models / "echo" / "config.pbtxt").is_file()


@pytest.mark.parametrize(("number", "permission"), [(0, "s3:ListBucket"), (1, "s3:GetObject")])
def test_a_missing_permission_is_reported(
    models: Store, cache: Path, policy: dict[str, Any], number: int, permission: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del policy["Statement"][number]
    use(models, policy, monkeypatch)
    with pytest.raises(S3ModelsError, match=f"They need {permission} on arn:aws:s3:::{BUCKET}"):
        fetch(URL, cache=cache)


@pytest.mark.parametrize(
    ("variable", "code"),
    [("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch")],
)
def test_invalid_access_keys_are_reported(
    models: Store, cache: Path, policy: dict[str, Any], variable: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(models, policy, monkeypatch)
    monkeypatch.setenv(variable, "A" * 20)
    with pytest.raises(S3ModelsError, match=rf"S3 rejects the AWS credentials for {URL} \({code}"):
        fetch(URL, cache=cache)
