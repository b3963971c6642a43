# SPDX-License-Identifier: Apache-2.0
"""Iterative scheduling: counts `times` down, one response for each run; Triton runs a request again until it is 0."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, _: dict[str, Any]) -> None:
        self.left: dict[int, int] = {}

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            values = {each.name(): int(each.as_numpy().reshape(-1)[0]) for each in request.inputs()}
            sender = request.get_response_sender()
            if not values["READY"]:  # an empty slot between those in use
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            key = values["KEY"]
            if values["START"]:
                self.left[key] = values["times"]
            self.left[key] -= 1
            is_last = self.left[key] <= 0
            left = pb_utils.Tensor("left", np.array([[self.left[key]]], np.int32))
            flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if is_last else 0
            sender.send(pb_utils.InferenceResponse([left]), flags=flags)
            if is_last:
                del self.left[key]
            else:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
