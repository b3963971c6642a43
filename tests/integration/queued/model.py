# SPDX-License-Identifier: Apache-2.0
"""Sleeps for the given time, and counts its executions."""

import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, _: dict[str, Any]) -> None:
        self.num_executed = 0

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        time.sleep(float(pb_utils.get_input_tensor_by_name(request, "seconds").as_numpy().item()))
        self.num_executed += 1
        count = pb_utils.Tensor("num_executed", np.array([[self.num_executed]], np.int32))
        return pb_utils.InferenceResponse([count])
