# SPDX-License-Identifier: Apache-2.0
"""Triton loads a model in which `fastapi-triton check` finds an error, but every request to the model fails."""

from pathlib import Path

import aiohttp
import pytest
from config_cases.case import inert

from fastapi_triton.cli.check import runner
from support.loading_triton import LoadingTriton, compile_inert_backend

INPUT = 'input { name: "x" data_type: TYPE_FP32 dims: 2 }'
OUTPUT = 'output { name: "y" data_type: TYPE_FP32 dims: 2 }'
X = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}


@pytest.mark.integration
async def test_an_input_that_is_declared_twice(tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "m" / "1").mkdir(parents=True)
    (models / "m" / "config.pbtxt").write_text(inert(tensors=INPUT + INPUT + OUTPUT))
    (found,) = [each for each in await runner.check(runner.Subject(models)) if each.code == "duplicate-input"]
    triton = LoadingTriton.prepare(models)
    triton.inert_library = compile_inert_backend(tmp_path)
    async with triton, aiohttp.ClientSession(triton.url) as session:
        await triton.until_live(session)
        assert await triton.load(session, "m") == ""
        for inputs, reason in (([X], "expected 2 inputs but got 1 inputs"), ([X, X], "'x' already exists")):
            async with session.post("/v2/models/m/infer", json={"inputs": inputs}) as response:
                assert response.status == 400
                assert reason in await response.text()
    assert "expected 2 inputs but got 1 inputs" in found.detail
