# SPDX-License-Identifier: Apache-2.0
"""Sends its request to the model that `MODEL_NAME` names, and returns the response or error."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.respond({each.name(): each for each in request.inputs()}) for request in requests]

    def respond(self, inputs: dict[str, Any]) -> Any:
        called = pb_utils.InferenceRequest(
            model_name=inputs["MODEL_NAME"].as_numpy()[0].decode(),
            inputs=[inputs["INPUT0"], inputs["INPUT1"]],
            requested_output_names=["OUTPUT0", "OUTPUT1"],
        )
        response = called.exec()
        if response.has_error():
            return pb_utils.InferenceResponse(error=response.error())
        return pb_utils.InferenceResponse(response.output_tensors())
