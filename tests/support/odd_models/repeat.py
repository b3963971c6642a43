# SPDX-License-Identifier: Apache-2.0
"""Decoupled: returns its inputs `times` times. With -1 it fails after the first response, with -2 before it. With -3 it
blocks after the first response until the request is cancelled.

An output `shapes`, if the config has it, holds the shapes of all inputs as JSON.
"""

import json
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.has_shapes = "shapes" in (output["name"] for output in config["output"])
        self.outer = [1] if config["max_batch_size"] else []

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            tensors = [self.same(each) for each in request.inputs()]
            times = int(pb_utils.get_input_tensor_by_name(request, "times").as_numpy().reshape(-1)[0])
            if self.has_shapes:
                tensors.append(self.shapes(request))
            for _ in range({-1: 1, -3: 1}.get(times, min(times, 3))):
                sender.send(pb_utils.InferenceResponse(tensors))
            while times == -3 and not sender.is_cancelled():
                time.sleep(0.01)
            if times in (-1, -2):
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("secret")))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def same(self, tensor: Any) -> Any:
        if tensor.name() == "bf16":  # numpy does not have it
            return pb_utils.Tensor.from_dlpack(tensor.name(), tensor.to_dlpack())
        return pb_utils.Tensor(tensor.name(), tensor.as_numpy())

    def shapes(self, request: Any) -> Any:
        text = json.dumps({each.name(): list(each.shape()) for each in request.inputs()})
        return pb_utils.Tensor("shapes", np.array([text.encode()], np.object_).reshape([*self.outer, 1]))
