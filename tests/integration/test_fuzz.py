# SPDX-License-Identifier: Apache-2.0
"""Fuzzes all operations of the OpenAPI document, with odd models on a real Triton. `make fuzz` runs it for longer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.serving import Server

pytestmark = pytest.mark.integration

SCHEMATHESIS = (sys.executable, "-m", "schemathesis.cli", "run")
CHECKS = (
    "never_a_bug",
    "errors_are_problems",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def fuzz(server: Server, folder: Path, *options: str) -> None:
    """Run schemathesis against the server and assert that every response matches the document."""
    here = Path(__file__).parent
    done = subprocess.run(
        [*SCHEMATHESIS, f"{server.url}/openapi.json", "--checks", ",".join(CHECKS), "--no-color", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(here), "SCHEMATHESIS_HOOKS": "fuzz_checks"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    assert "Exception in ASGI application" not in server.log
    assert server.process.poll() is None


def test_short_fuzzing_finds_nothing(odd_server: Server, tmp_path: Path) -> None:
    a_little = ["--phases", "examples,fuzzing", "-n", "3", "--exclude-path-regex", "/versions/"]
    fuzz(odd_server, tmp_path, *a_little, "--seed", "1", "--generation-deterministic")


@pytest.mark.fuzz
@pytest.mark.timeout(7200)
def test_long_fuzzing_finds_nothing(odd_server: Server, tmp_path: Path) -> None:
    fuzz(odd_server, tmp_path, "-n", os.environ.get("FUZZ_EXAMPLES", "300"))
