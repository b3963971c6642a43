# SPDX-License-Identifier: Apache-2.0
"""Decoupled: returns its inputs `times` times. With -1 it fails after the first response, with -2 before it."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            tensors = [pb_utils.Tensor(each.name(), each.as_numpy()) for each in request.inputs()]
            (times,) = (int(each.as_numpy().reshape(-1)[0]) for each in tensors if each.name() == "times")
            for _ in range({-1: 1}.get(times, min(times, 3))):
                sender.send(pb_utils.InferenceResponse(tensors))
            if times in (-1, -2):
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("secret")))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
