# SPDX-License-Identifier: Apache-2.0
"""compose.yaml as podman-compose reads it, with a stand-in for podman."""

import json
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

# Appends the arguments of each call to a file, and finds every volume and network.
STAND_IN = """#!{python}
import json, sys
if "--version" in sys.argv:
    print("podman version 5.4.0")
else:
    open("{calls}", "a").write(json.dumps(sys.argv[1:]) + "\\n")
    print("[]")
"""


def podman_compose(*arguments: str) -> tuple[str, list[list[str]]]:
    """Run podman-compose. Returns its standard output, and the arguments of each call of podman."""
    with tempfile.TemporaryDirectory() as folder:
        podman, calls = Path(folder, "podman"), Path(folder, "calls")
        podman.write_text(STAND_IN.format(python=sys.executable, calls=calls), encoding="utf-8")
        podman.chmod(0o755)
        calls.touch()
        command = [sys.executable, "-m", "podman_compose", "--podman-path", str(podman), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout, [json.loads(line) for line in calls.read_text(encoding="utf-8").splitlines()]


def compose_config(*files: Path) -> dict[str, Any]:
    """The files, merged and with the variables replaced."""
    printed, _ = podman_compose(*(f"--file={file}" for file in files), "config")
    config: dict[str, Any] = yaml.safe_load(printed)
    return config


def container_environments(*files: Path) -> dict[str, dict[str, str]]:
    """The environment that each service's container gets from `up`."""
    _, calls = podman_compose(*(f"--file={file}" for file in files), "up", "--no-build", "--detach")
    environments = {}
    for call in calls:
        if call[0] == "create":
            (service,) = (each.partition("=")[2] for each in call if each.startswith("io.podman.compose.service="))
            given = [value for flag, value in pairwise(call) if flag == "-e"]
            environments[service] = dict(each.split("=", 1) for each in given)
    return environments
