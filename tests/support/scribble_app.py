# SPDX-License-Identifier: Apache-2.0
"""The scribble app of `main.py`: its path, its model's config, example pictures, and its fake model's responses."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tritonclient.grpc import model_config_pb2

import main
from fastapi_triton.triton.client import Tensors
from fastapi_triton.triton.datatypes import BY_CONFIG, BY_WIRE
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor

PATH = main.path
MODEL = main.model
# Of real pictures whose size does not matter, whatever the demo checkpoint's own size is.
SMALL = {"width": 128, "height": 128}


def picture(image_format: str = "PNG", size: tuple[int, int] = (16, 12)) -> bytes:
    """A small picture file."""
    file = io.BytesIO()
    Image.new("RGB", size, "white").save(file, image_format)
    return file.getvalue()


def base64_picture(image_format: str = "PNG", size: tuple[int, int] = (16, 12)) -> str:
    return base64.b64encode(picture(image_format, size)).decode()


def config_of_file(path: Path) -> ModelConfig:
    """A model config from its `config.pbtxt`."""
    parsed = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())

    def tensors(entries: Any) -> tuple[TensorConfig, ...]:
        return tuple(
            TensorConfig(
                each.name,
                BY_CONFIG[model_config_pb2.DataType.Name(each.data_type)],
                tuple(each.dims),
                getattr(each, "optional", False),
            )
            for each in entries
        )

    return ModelConfig(
        parsed.name,
        parsed.max_batch_size,
        tensors(parsed.input),
        tensors(parsed.output),
        decoupled=parsed.model_transaction_policy.decoupled,
    )


def text(tensors: Tensors, name: str) -> str:
    value = tensors[name].array.item()
    assert isinstance(value, bytes)
    return value.decode()


def bytes_tensor(value: bytes) -> Tensor:
    return Tensor.of_one(BY_WIRE["BYTES"], value, (1, 1))


async def paint(inputs: Tensors) -> dict[str, Tensor]:
    """The response of the fake scribble model: a picture in the requested format, and the inputs."""
    image_format = text(inputs, "output_format") if "output_format" in inputs else "webp"
    seed = inputs["seed"].array.item() if "seed" in inputs else 7
    return {
        "generated_image": bytes_tensor(base64_picture(image_format.upper()).encode()),
        "seed": Tensor(BY_WIRE["INT64"], np.array([[seed]], np.int64)),
        "info": bytes_tensor(json.dumps({"prompt": text(inputs, "prompt")}).encode()),
    }
