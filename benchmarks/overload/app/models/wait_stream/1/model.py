# SPDX-License-Identifier: Apache-2.0
"""A model that waits in steps of 50 ms. It works on any number of requests at once and stops cancelled ones."""

import asyncio
import json
import threading
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

STEP_S = 0.05


class TritonPythonModel:
    def initialize(self, _: dict[str, Any]) -> None:
        self.counts = {"begun": 0, "cancelled": 0, "late": 0, "completed": 0}
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            if value_of(request, "describe", False):
                send(sender, info=json.dumps(self.counts))
                finish(sender)
                continue
            seconds = float(value_of(request, "seconds", 0.0))
            timeout_s = float(value_of(request, "timeout_s", 1e9))
            asyncio.run_coroutine_threadsafe(self.wait(sender, seconds, timeout_s), self.loop)

    async def wait(self, sender: Any, seconds: float, timeout_s: float) -> None:
        self.counts["begun"] += 1
        began = time.monotonic()
        num_steps = max(1, round(seconds / STEP_S))
        send(sender, event="queued")
        for step in range(1, num_steps + 1):
            await asyncio.sleep(STEP_S)
            if sender.is_cancelled():
                self.counts["cancelled"] += 1
                finish(sender)
                return
            if time.monotonic() - began > timeout_s:
                self.counts["late"] += 1
                error = json.dumps({"code": "deadline_exceeded", "detail": "timeout_s passed"})
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(error)))
                finish(sender)
                return
            send(sender, event="progress", step=step, num_steps=num_steps)
        self.counts["completed"] += 1
        send(sender, event="completed", waited=time.monotonic() - began)
        finish(sender)


def send(sender: Any, **outputs: str | int | float) -> None:
    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor(name, array(each)) for name, each in outputs.items()]))


def array(value: str | int | float) -> Any:
    if isinstance(value, str):
        return np.array([value.encode()], np.object_)
    return np.array([value], np.int32 if isinstance(value, int) else np.float32)


def finish(sender: Any) -> None:
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def value_of(request: Any, name: str, default: Any) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0]
