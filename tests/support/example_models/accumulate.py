# SPDX-License-Identifier: Apache-2.0
"""Returns the sum of a sequence; with an id, the sequence's last response has the id added."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, _: dict[str, str]) -> None:
        self.sums: dict[Any, int] = {}

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        inputs = {each.name(): int(each.as_numpy().reshape(-1)[0]) for each in request.inputs()}
        if not inputs["READY"]:
            return pb_utils.InferenceResponse([])
        sequence = request.correlation_id()
        self.sums[sequence] = inputs["INPUT"] + (0 if inputs["START"] else self.sums[sequence])
        last = inputs.get("CORRID", 0) if inputs.get("END") else 0
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("OUTPUT", np.array([[self.sums[sequence] + last]], np.int32))]
        )
