# SPDX-License-Identifier: Apache-2.0
"""Counts small and capital letters."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        ids = pb_utils.get_input_tensor_by_name(request, "input.ids").as_numpy()  # (rows, letters)
        capitals = (ids < ord("a")).sum(axis=1)
        counts = np.stack([ids.shape[1] - capitals, capitals], axis=1).astype(np.float32)  # (rows, 2)
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", counts)])
