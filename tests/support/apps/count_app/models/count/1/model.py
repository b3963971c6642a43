# SPDX-License-Identifier: Apache-2.0
"""The public model of `count_stream`. It gets no requests: the frontend sends them to the stream model."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        refusal = pb_utils.TritonError(
            "the frontend sends requests to the stream model", pb_utils.TritonError.UNSUPPORTED
        )
        return [pb_utils.InferenceResponse(error=refusal) for _ in requests]
