# SPDX-License-Identifier: Apache-2.0
"""The public face of `count_stream`. Nobody asks it: the frontend goes to the twin."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        refusal = pb_utils.TritonError("the frontend goes to the twin", pb_utils.TritonError.UNSUPPORTED)
        return [pb_utils.InferenceResponse(error=refusal) for _ in requests]
