# SPDX-License-Identifier: Apache-2.0
"""A model that waits. It has no thread for each request, so the frontend has the machine to itself."""

import asyncio
import threading
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

NUM_AT_ONCE = 8


class TritonPythonModel:
    def initialize(self, _: dict[str, Any]) -> None:
        self.loop = asyncio.new_event_loop()
        self.slots = asyncio.Semaphore(NUM_AT_ONCE)
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def execute(self, requests: list[Any]) -> list[None]:
        for request in requests:
            seconds = float(pb_utils.get_input_tensor_by_name(request, "seconds").as_numpy()[0])
            asyncio.run_coroutine_threadsafe(self.wait(request.get_response_sender(), seconds), self.loop)
        return [None] * len(requests)

    async def wait(self, sender: Any, seconds: float) -> None:
        began = time.monotonic()
        async with self.slots:
            await asyncio.sleep(seconds)
        waited = pb_utils.Tensor("waited", np.array([time.monotonic() - began], np.float32))
        sender.send(pb_utils.InferenceResponse([waited]), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
