# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for AWS, and for the programs of an EC2 machine."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ec2_files import BUCKET, REGION, stand_in
from moto import mock_aws

from support.paths import ROOT


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """moto in place of AWS, without the user's own AWS configuration."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bucket, and stand-ins for the programs of the machine image."""
    bucket = tmp_path / BUCKET
    bucket.mkdir()
    with tarfile.open(bucket / "app.tar.gz", "w:gz") as app:
        for file in ("compose.yaml", "deploy/ec2/compose.yaml", "deploy/ec2/update", "deploy/ec2/node"):
            app.add(ROOT / file, file)
        setup = tmp_path / "setup"
        setup.write_text(
            '#!/bin/bash\necho "setup $* $PYTHON" >>"$CALLS"\nmkdir -p .venv/bin\nln -sf "$BIN/python" .venv/bin/\n'
        )
        setup.chmod(0o755)
        app.add(setup, "scripts/setup")
    (bucket / "keys.toml").write_text("[keys.me]\n")
    programs = tmp_path / "bin"
    # aws s3 cp [options] s3://bucket/key target
    copy = '[ "$to" = - ] && to=/dev/stdout\ncat "$CLOUD/${from#s3://}" >"$to"'
    stand_in(programs, "aws", 'from="${@: -2:1}" to="${@: -1}"\n' + copy)
    stand_in(programs, "docker", "")
    # Without `-o ubuntu`: that user does not exist here.
    stand_in(programs, "sudo", '[ "$1" = install ] && exec mkdir -p "${@:5}"\nexec env "$@"')
    stand_in(programs, "cloud-init", "exit 2")  # a recoverable error
    stand_in(programs, "apt-get", "")
    stand_in(programs, "python", "echo /the/models")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("CALLS", tmp_path / "calls"), ("CLOUD", tmp_path), ("BIN", programs)):
        monkeypatch.setenv(name, str(value))
    return tmp_path
