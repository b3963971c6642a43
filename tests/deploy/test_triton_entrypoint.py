# SPDX-License-Identifier: Apache-2.0
"""The Triton image's entrypoint, with a stand-in for tritonserver."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.paths import ROOT

TRITON = ROOT / "deploy" / "triton"


def entrypoint(tmp_path: Path, repository: str, *arguments: str) -> subprocess.Popen[str]:
    server = tmp_path / "bin" / "tritonserver"
    server.parent.mkdir(exist_ok=True)
    server.write_text('#!/bin/sh\necho "$$"\nfor each; do echo "$each"; done\nexec cat\n', encoding="utf-8")
    server.chmod(0o755)
    return subprocess.Popen(
        [str(TRITON / "entrypoint.sh"), *arguments],
        env={"PATH": f"{server.parent}:{os.environ['PATH']}", "MODEL_REPOSITORY": repository},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("repository", [str(ROOT / "models"), "gs://bucket/models"])
def test_entrypoint_passes_the_repository_to_triton(tmp_path: Path, repository: str) -> None:
    process = entrypoint(tmp_path, repository, "--log-verbose=1")
    out, err = process.communicate("", timeout=30)
    _, *arguments = out.splitlines()
    assert arguments == [f"--model-repository={repository}", "--exit-timeout-secs=120", "--log-verbose=1"], err
    assert process.returncode == 0


def test_entrypoint_becomes_triton_so_that_signals_reach_it(tmp_path: Path) -> None:
    process = entrypoint(tmp_path, "gs://bucket/models")
    try:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def test_entrypoint_reports_a_repository_without_models(tmp_path: Path) -> None:
    empty = tmp_path / "models"
    empty.mkdir()
    process = entrypoint(tmp_path, str(empty))
    _, err = process.communicate("", timeout=30)
    assert process.returncode == 1
    assert f"no model in {empty}" in err
    assert "MODEL_REPOSITORY=s3://" in err
