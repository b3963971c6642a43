# SPDX-License-Identifier: Apache-2.0
"""Counts steps. The request's text is a command: `echo <text>`, `refuse <code>`, `fail`, `break_off`, `late_fail` or
`hold <folder>`.

`hold` touches `began-<request id>` in the folder, and makes no step until the folder has a file `go`. When the client
disconnects it touches `left-<request id>`.
"""

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, _: dict[str, Any]) -> None:
        self.num_running = 0
        self.lock = threading.Lock()

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            count = Count(request)
            if count.is_description:
                count.send(info=json.dumps({"num_running": self.num_running, "sizes": [[128, 128]]}))
                count.finish()
            else:
                threading.Thread(target=self.run, args=(count,), daemon=True).start()

    def run(self, count: "Count") -> None:
        with self.lock:
            self.num_running += 1
        try:
            count.run()
        finally:
            with self.lock:
                self.num_running -= 1
            count.finish()


class Count:
    """One request."""

    def __init__(self, request: Any) -> None:
        self.sender = request.get_response_sender()
        self.request_id = request.request_id()
        self.is_description = bool(value_of(request, "describe", False))
        self.verb, _, self.rest = value_of(request, "text", b"").decode().partition(" ")
        self.num_steps = int(value_of(request, "num_steps", 3))
        self.preview = "p" * int(value_of(request, "size", 0))
        self.numbers = {
            name: tensor
            for name in ("seed", "scales")
            if (tensor := pb_utils.get_input_tensor_by_name(request, name)) is not None
        }
        self.preview_every = int(value_of(request, "preview_every", 0))

    def run(self) -> None:
        if self.verb == "refuse":  # before any event
            self.fail(json.dumps({"code": self.rest, "detail": "Why.", "field": "text", "retry_after_s": 7}))
            return
        if self.verb == "fail":
            self.fail("secret")
            return
        self.send(event="queued")
        if self.verb == "hold" and not self.wait(Path(self.rest)):
            return
        for step in range(1, self.num_steps + 1):
            preview = {}
            if self.preview_every and step % self.preview_every == 0:
                preview = {"preview": self.preview}
            self.send(event="progress", step=step, num_steps=self.num_steps, **preview)
        if self.verb == "late_fail":
            self.fail(json.dumps({"code": "generation_failed", "detail": "Why."}))
        elif self.verb != "break_off":
            info = json.dumps({"preview_every": self.preview_every, "request_id": self.request_id})
            self.send(*self.numbers.values(), event="completed", text=self.rest + self.preview, info=info)

    def wait(self, folder: Path) -> bool:
        """Wait for permission to continue; False if the client disconnected."""
        (folder / f"began-{self.request_id}").touch()
        while not (folder / "go").exists():
            if self.sender.is_cancelled():
                (folder / f"left-{self.request_id}").touch()
                return False
            time.sleep(0.005)
        return True

    def send(self, *numbers: Any, **outputs: str | int) -> None:
        tensors = [
            *numbers,
            *(
                pb_utils.Tensor(
                    name,
                    np.array([value], np.int32) if isinstance(value, int) else np.array([value.encode()], np.object_),
                )
                for name, value in outputs.items()
            ),
        ]
        self.sender.send(pb_utils.InferenceResponse(tensors))

    def fail(self, text: str) -> None:
        self.sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(text)))

    def finish(self) -> None:
        self.sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def value_of(request: Any, name: str, default: Any) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0]
