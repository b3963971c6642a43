# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import subprocess
import sys

import pytest
from diffusion_engine.errors import RequestError
from diffusion_engine.request import DiffusionRequest
from drawings import VERSION_FOLDER


def test_error_is_json_without_empty_fields() -> None:
    error = RequestError("out_of_range", "seed must be less", field="seed")
    assert json.loads(error.to_json()) == {
        "code": "out_of_range",
        "detail": "seed must be less",
        "field": "seed",
    }


def test_error_has_the_time_to_retry() -> None:
    assert json.loads(RequestError("out_of_memory", "full", retry_after_s=5).to_json())["retry_after_s"] == 5


def test_error_names_its_row_if_there_are_several() -> None:
    error = RequestError("not_an_image", "no picture", field="image")
    assert error.in_row(0, 1) is error
    named = error.in_row(2, 4)
    assert (named.code, named.field) == ("not_an_image", "image")
    assert named.detail == "row 2 of 0 to 3: no picture"


def test_a_request_cannot_be_changed() -> None:
    request = object.__new__(DiffusionRequest)
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.seed = 3  # type: ignore[misc]


def test_modules_that_parse_and_schedule_requests_import_neither_torch_nor_triton() -> None:
    code = (
        "import sys, diffusion_engine.request_parser, diffusion_engine.preprocessing, diffusion_engine.config;"
        "import diffusion_engine.step_scheduler, diffusion_engine.row_limits, diffusion_engine.metrics;"
        "unwanted = {'torch', 'diffusers', 'fastapi', 'triton_python_backend_utils'};"
        "sys.exit(bool(unwanted & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=VERSION_FOLDER, check=False).returncode == 0
