# SPDX-License-Identifier: Apache-2.0
"""A model that waits for `ms` milliseconds and returns them. All rows of a batch wait at once."""

import time
from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        tensors = [pb_utils.get_input_tensor_by_name(request, "ms").as_numpy() for request in requests]
        time.sleep(max(int(tensor.max()) for tensor in tensors) / 1000)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("ms", tensor)]) for tensor in tensors]
