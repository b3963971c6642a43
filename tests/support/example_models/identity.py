# SPDX-License-Identifier: Apache-2.0
"""Returns `INPUT0` as `OUTPUT0`."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        tensors = (pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy() for request in requests)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", each)]) for each in tensors]
