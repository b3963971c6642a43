# SPDX-License-Identifier: Apache-2.0
"""Its code completes its config. Returns the sum and the difference of its inputs."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        for index in range(2):
            config.add_input({"name": f"INPUT{index}", "data_type": "TYPE_FP32", "dims": [4]})
            config.add_output({"name": f"OUTPUT{index}", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(4)
        config.set_dynamic_batching()
        return config

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        a, b = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("INPUT0", "INPUT1"))
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", a + b), pb_utils.Tensor("OUTPUT1", a - b)])
