# SPDX-License-Identifier: Apache-2.0
"""Returns numbers that fall along each output, whose free dims are 2."""

import json
import math
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, arguments: dict[str, str]) -> None:
        config = json.loads(arguments["model_config"])
        self.is_batched = config["max_batch_size"] > 0
        self.outputs = [(each["name"], self.dims(each)) for each in config["output"]]

    def dims(self, output: dict[str, Any]) -> list[int]:
        dims = output.get("reshape", {}).get("shape") or output["dims"]
        return [2 if int(dim) < 0 else int(dim) for dim in dims]

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        num_rows = len(request.inputs()[0].as_numpy())
        tensors = []
        for name, dims in self.outputs:
            row = -np.arange(math.prod(dims), dtype=np.float32).reshape(dims)
            tensors.append(pb_utils.Tensor(name, np.stack([row] * num_rows) if self.is_batched else row))
        return pb_utils.InferenceResponse(tensors)
