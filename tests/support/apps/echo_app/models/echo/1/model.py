# SPDX-License-Identifier: Apache-2.0
"""Returns its text. The texts `fail`, `refuse`, `die` and `wait <file>` are commands."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.respond(request) for request in requests]

    def respond(self, request: Any) -> Any:
        tensor = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()  # (1, 1)
        verb, _, rest = tensor[0, 0].decode("utf-8", "replace").partition(" ")
        if verb == "fail":
            raise ValueError("secret")
        if verb == "refuse":
            error = json.dumps({"code": "too_rude", "detail": "Say it nicely.", "field": "text"})
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(error, pb_utils.TritonError.INVALID_ARG))
        if verb == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if verb == "wait":
            Path(rest).touch()  # shows that it is running
            while Path(rest).exists():
                time.sleep(0.01)
        return pb_utils.InferenceResponse([pb_utils.Tensor("text", tensor)])
