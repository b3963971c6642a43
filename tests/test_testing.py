# SPDX-License-Identifier: Apache-2.0
"""`fastapi_triton.testing`: what a test of an app writes down, and what the app gets of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastapi_triton.core.errors import InferenceError
from fastapi_triton.testing import FakeTriton, read_config
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.config_text import ConfigTextError
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.tensor import Tensor

OUTPUTS = """output [
  { name: "score" data_type: TYPE_FP32 dims: [ 1 ] }, { name: "label" data_type: TYPE_STRING dims: [ 1 ] }
]"""


def write_config(folder: Path, text: str) -> Path:
    (folder / "mood").mkdir()
    path = folder / "mood" / "config.pbtxt"
    path.write_text(text)
    return path


def triton_that_returns(outputs: dict[str, Any], config: Path) -> FakeTriton:
    async def respond(inputs: Tensors) -> dict[str, Any]:
        return outputs

    triton = FakeTriton()
    triton.add(read_config(config), respond)
    return triton


def test_config_is_read_from_its_file(tmp_path: Path) -> None:
    config = read_config(write_config(tmp_path, f"max_batch_size: 4 {OUTPUTS}"))
    assert (config.name, config.max_batch_size, [each.name for each in config.outputs]) == (
        "mood",
        4,
        ["score", "label"],
    )
    with pytest.raises(ConfigTextError, match="cannot be read"):
        read_config(tmp_path / "config.pbtxt")


@pytest.mark.parametrize(
    ("batch", "score", "shape"),
    [
        ("max_batch_size: 4", 0.5, (1, 1)),
        ("max_batch_size: 4", [[0.5], [1.0]], (2, 1)),
        ("", np.array([0.5], np.float64), (1,)),
        ("", Tensor(BY_WIRE["FP32"], np.array([0.5], np.float32)), (1,)),
    ],
)
async def test_outputs_become_tensors_of_the_config(tmp_path: Path, batch: str, score: Any, shape: tuple[int]) -> None:
    triton = triton_that_returns({"score": score}, write_config(tmp_path, f"{batch} {OUTPUTS}"))
    outputs = await triton.infer("mood", {})
    assert (outputs["score"].datatype.wire, outputs["score"].array.dtype) == ("FP32", np.float32)
    assert outputs["score"].array.shape == shape


@pytest.mark.parametrize("label", ["größer", "größer".encode(), ["größer"]])
async def test_text_outputs_become_bytes(tmp_path: Path, label: Any) -> None:
    triton = triton_that_returns({"label": label}, write_config(tmp_path, OUTPUTS))
    outputs = await triton.infer("mood", {})
    assert outputs["label"].array.tolist() == ["größer".encode()]


async def test_output_that_the_config_does_not_declare_is_an_error(tmp_path: Path) -> None:
    triton = triton_that_returns({"scores": 0.5}, write_config(tmp_path, OUTPUTS))
    with pytest.raises(InferenceError, match="mood returned `scores`, which its config does not declare"):
        await triton.infer("mood", {})


async def test_model_may_be_a_plain_function(tmp_path: Path) -> None:
    triton = FakeTriton()
    triton.add(read_config(write_config(tmp_path, OUTPUTS)), lambda inputs: {"score": len(inputs)})
    assert (await triton.infer("mood", {}))["score"].item() == 0.0
