# SPDX-License-Identifier: Apache-2.0
"""Configs of models that return their inputs, and the responses of a fake Triton for them."""

from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor


def tensor(name: str, wire: str = "FP32", dims: tuple[int, ...] = (1,), *, optional: bool = False) -> TensorConfig:
    return TensorConfig(name, BY_WIRE[wire], dims, optional)


def model(name: str, *tensors: TensorConfig, batch: int = 0, decoupled: bool = False) -> ModelConfig:
    """A model that returns its inputs."""
    return ModelConfig(name, batch, tensors, tensors, decoupled)


async def echo(inputs: Tensors) -> dict[str, Tensor]:
    return dict(inputs)
