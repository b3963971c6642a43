# SPDX-License-Identifier: Apache-2.0
"""Fails as the request says: `raise`, `refuse`, `silent` (no output), `shape` (not the config's), or not at all."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        tensor = pb_utils.get_input_tensor_by_name(request, "how")
        how = tensor.as_numpy().reshape(-1)[0]
        if how == b"raise":
            raise ValueError("secret")
        if how == b"refuse":
            error = pb_utils.TritonError("say it nicely", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=error)
        if how == b"silent":
            return pb_utils.InferenceResponse([])
        if how == b"shape":
            return pb_utils.InferenceResponse([pb_utils.Tensor("how", np.array([[b"a", b"b"]], dtype=np.object_))])
        return pb_utils.InferenceResponse([pb_utils.Tensor("how", tensor.as_numpy())])
