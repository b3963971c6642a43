# SPDX-License-Identifier: Apache-2.0
"""The same as a stream: it sends `queued` at once, and `completed` after the wait."""

import threading
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


def event(kind: bytes) -> Any:
    return pb_utils.Tensor("event", np.array([kind], np.object_))


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            tensor = pb_utils.get_input_tensor_by_name(request, "ms").as_numpy()
            sender.send(pb_utils.InferenceResponse([event(b"queued")]))
            threading.Timer(int(tensor[0]) / 1000, self.complete, (sender, tensor)).start()

    def complete(self, sender: Any, tensor: Any) -> None:
        done = pb_utils.InferenceResponse([event(b"completed"), pb_utils.Tensor("ms", tensor)])
        sender.send(done, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
