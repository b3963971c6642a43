# SPDX-License-Identifier: Apache-2.0
"""Requests to the engine's `model.py`, and the events of its responses."""

from typing import Any

import numpy as np
from drawings import MODEL_FOLDER, as_file, circle
from google.protobuf import json_format, text_format
from triton_backend import DATATYPES, Request, Tensor
from tritonclient.grpc import model_config_pb2

MODEL_CONFIG = json_format.MessageToDict(
    text_format.Parse((MODEL_FOLDER / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()),
    preserving_proto_field_name=True,
    always_print_fields_with_no_presence=True,  # as Triton does
)
INPUTS = {tensor["name"]: DATATYPES[tensor["data_type"]] for tensor in MODEL_CONFIG["input"]}
OUTPUTS = {tensor["name"]: DATATYPES[tensor["data_type"]] for tensor in MODEL_CONFIG["output"]}


def request(*, is_terse: bool = False, **values: Any) -> Request:
    """A request. None omits a tensor."""
    parameters = {"terse": True} if is_terse else {}
    named = {
        "prompt": b"a red circle on a blue background",
        "image": as_file(circle()),
        "conditioning_scale": 1.0,
        "seed": 1,
        "num_inference_steps": 3,
        "width": 96,
        "height": 96,
        **values,
    }
    tensors = (
        Tensor(name, np.array([value], dtype=INPUTS[name])) for name, value in named.items() if value is not None
    )
    return Request(tensors, **parameters)


def events(sent: Request) -> list[str]:
    return [
        "error" if response.has_error() else response.outputs()["event"][0].decode()
        for response in sent.all_responses()
    ]
