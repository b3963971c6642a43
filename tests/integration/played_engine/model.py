# SPDX-License-Identifier: Apache-2.0
"""A simulated engine: it makes no pictures, but sends the engine's responses from threads.

A seed below 0 fails. Another thread makes numpy arrays all the time, as a busy engine does.
"""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from diffusion_engine.errors import RequestError
from diffusion_engine.request_state import GeneratedPicture, QueuePosition
from triton_adapter.listener import TritonListener
from triton_adapter.response_stream import ResponseStream

NUM_STEPS = 6


class TritonPythonModel:
    def initialize(self, _: dict[str, Any]) -> None:
        self.threads = ThreadPoolExecutor(4)
        self.ends = threading.Event()
        self.busy = threading.Thread(target=self.be_busy)
        self.busy.start()

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            is_terse = bool(json.loads(request.parameters() or "{}").get("terse"))
            listener = TritonListener(ResponseStream(request.get_response_sender()), is_terse=is_terse)
            seed = int(pb_utils.get_input_tensor_by_name(request, "seed").as_numpy()[0])
            listener.queued(QueuePosition(1))
            self.threads.submit(self.run, listener, seed)

    def finalize(self) -> None:
        self.threads.shutdown()
        self.ends.set()
        self.busy.join()

    def run(self, listener: TritonListener, seed: int) -> None:
        for step in range(1, NUM_STEPS + 1):
            listener.progress(step, NUM_STEPS, b"a preview")
        if seed < 0:
            listener.failed(RequestError("invalid_base64", "as asked"))
        else:
            listener.completed(GeneratedPicture(content=bytes(20_000), seed=seed, info={}))

    def be_busy(self) -> None:
        while not self.ends.wait(0.0002):
            arrays = [np.array([number], np.int32) for number in range(200)]
            del arrays
