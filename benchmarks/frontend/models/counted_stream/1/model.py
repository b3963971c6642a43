# SPDX-License-Identifier: Apache-2.0
"""Decoupled: sends `values` back `times` times."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "values").as_numpy()
            times = int(pb_utils.get_input_tensor_by_name(request, "times").as_numpy()[0])
            sender = request.get_response_sender()
            for _ in range(times):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("values", values)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
