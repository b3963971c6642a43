# SPDX-License-Identifier: Apache-2.0
"""Returns its inputs, and the number of rows of its batch. Fails for a row whose first id is negative."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        tensors = [{each.name(): each.as_numpy() for each in request.inputs()} for request in requests]
        num_rows = sum(len(each["ids"]) for each in tensors)
        return [self.respond(each, num_rows) for each in tensors]

    def respond(self, inputs: dict[str, Any], num_rows: int) -> Any:
        if inputs["ids"].size and inputs["ids"][0, 0] < 0:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("no", pb_utils.TritonError.INVALID_ARG))
        batch = np.full((len(inputs["ids"]), 1), num_rows, np.int32)
        outputs = {**inputs, "batch": batch}
        return pb_utils.InferenceResponse([pb_utils.Tensor(*each) for each in outputs.items()])
