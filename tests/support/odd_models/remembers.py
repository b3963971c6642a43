# SPDX-License-Identifier: Apache-2.0
"""A sequence model: returns the sum of all `x` of the request's sequence."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, _: dict[str, str]) -> None:
        self.sums: dict[int, int] = {}

    def execute(self, requests: list[Any]) -> list[Any]:
        return [
            self.respond({each.name(): each.as_numpy().item() for each in request.inputs()}) for request in requests
        ]

    def respond(self, inputs: dict[str, Any]) -> Any:
        if not inputs["READY"]:  # Triton's filler for a batch slot whose sequence has no request
            return pb_utils.InferenceResponse([])
        before = 0 if inputs["START"] else self.sums[inputs["ID"]]
        self.sums[inputs["ID"]] = before + inputs["x"]
        return pb_utils.InferenceResponse([pb_utils.Tensor("sum", np.array([[before + inputs["x"]]], np.int64))])
