# SPDX-License-Identifier: Apache-2.0
"""`make run` on a bare Debian 12: from no Python at all to a picture."""

import io
from collections.abc import Callable

import pytest
from distribution import CLONE, DEBIAN_12, Machine, Release
from PIL import Image

from support.paths import ROOT

pytestmark = [pytest.mark.linux, pytest.mark.integration]


def test_root_gets_from_nothing_to_a_picture(new_machine: Callable[[Release], Machine]) -> None:
    machine = new_machine(DEBIAN_12)
    machine.share_pip_cache()
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said[0] == "Installing python3 python3-venv with apt-get …"
    assert said[1] == "Installing libpython3.11 with apt-get …"
    assert said[-1].startswith("Installing fastapi-triton[embedded] into .venv with Python 3.11.")
    assert len(said) == (3 if "PIP_FIND_LINKS" in machine.environment else 4), said  # else the build of PyTorch
    server = machine.serve()
    try:
        server.wait_until_ready()
        scribble = (ROOT / "demo/examples/house.png").read_bytes()
        answer = server.post(
            "/sdxl/scribble-controlnet/infer",
            data={"prompt": "a red house in the snow"},
            files={"image": ("house.png", scribble, "image/png")},
            headers={"Accept": "image/png"},
        )
    finally:
        server.stop(9)
    assert answer.status_code == 200, answer.text
    assert Image.open(io.BytesIO(answer.content)).format == "PNG"
    assert [line for line in server.lines if "ERROR" in line or "WARNING" in line] == []
    again = machine.setup()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", ""), CLONE
