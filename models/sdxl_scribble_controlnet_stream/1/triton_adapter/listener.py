# SPDX-License-Identifier: Apache-2.0
"""Sends the engine's events as Triton responses: `queued`, `progress`, `completed`, or an error. The last is final."""

import base64
import json
import threading
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from diffusion_engine.errors import RequestError
from diffusion_engine.request_state import GeneratedPicture, QueuePosition

from triton_adapter.response_stream import ResponseStream

Value = bytes | int | float

# The names of Triton's codes, which become HTTP statuses. Any other error is the client's: INVALID_ARG, a 400.
# Names, because Triton fills in `pb_utils.TritonError` only after this module has been imported.
TRITON_CODES = {
    "cancelled": "CANCELLED",
    "deadline_exceeded": "UNAVAILABLE",
    "decoder_unavailable": "UNAVAILABLE",
    "generation_failed": "INTERNAL",
    "out_of_memory": "UNAVAILABLE",
    "queue_full": "UNAVAILABLE",
    "shutting_down": "UNAVAILABLE",
    "vae_overflow": "INTERNAL",
}


class TritonListener:
    """The engine's `Listener` for one Triton request.

    Args:
        is_terse: send only `queued` and the last event. Models that call this one by BLS must set it: Triton's BLS can
            deadlock if a request has more than two responses.
    """

    def __init__(self, responses: ResponseStream, *, is_terse: bool = False) -> None:
        self._responses = responses
        self._is_terse = is_terse
        # Other events wait for this one, so that `queued` is the first.
        self._is_queued = threading.Event()

    def queued(self, position: QueuePosition) -> None:
        """Sent at once: Triton reports a disconnect only after the first response."""
        self._send_position(position)
        self._is_queued.set()

    def moved(self, position: QueuePosition) -> None:
        if self._is_terse:
            return
        self._is_queued.wait()
        self._send_position(position)

    def described(self, info: dict[str, Any]) -> None:
        self._send({"event": b"described", "info": json.dumps(info).encode()}, is_final=True)

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
        if self._is_terse:
            return
        self._is_queued.wait()
        outputs: dict[str, Value] = {"event": b"progress", "step": step, "num_steps": num_steps}
        if preview is not None:
            outputs["preview"] = base64.b64encode(preview)
        self._send(outputs)

    def completed(self, picture: GeneratedPicture) -> None:
        self._is_queued.wait()
        self._send(
            {
                "event": b"completed",
                "generated_image": picture.content,
                "seed": picture.seed,
                "info": json.dumps(picture.info).encode(),
            },
            is_final=True,
        )

    def failed(self, error: RequestError) -> None:
        self._is_queued.wait()
        self.rejected(error)

    def rejected(self, error: RequestError) -> None:
        """Fail a request that was not queued. Sent twice: as an event, and as Triton's error, which ends the stream.

        A terse request gets only the event, which then names Triton's code: BLS does not deliver a decoupled model's
        error (Triton 2.51), and its iterator never ends if that is the last response.
        """
        text, code = error.to_json(), TRITON_CODES.get(error.code, "INVALID_ARG")
        if self._is_terse:
            info = json.dumps({**json.loads(text), "triton_code": code})
            self._send({"event": b"failed", "info": info.encode()}, is_final=True)
            return
        self._send({"event": b"failed", "info": text.encode()})
        failure = pb_utils.TritonError(text, getattr(pb_utils.TritonError, code))
        self._responses.send(pb_utils.InferenceResponse(error=failure), is_final=True)

    def _send_position(self, position: QueuePosition) -> None:
        outputs: dict[str, Value | None] = {
            "event": b"queued",
            "position": position.position,
            "estimated_wait_s": position.estimated_wait_s,
            "estimated_total_s": position.estimated_total_s,
        }
        self._send({name: value for name, value in outputs.items() if value is not None})

    def _send(self, outputs: dict[str, Value], *, is_final: bool = False) -> None:
        # Kept until they are sent: before 24.12, Triton drops outputs that were not requested without holding the GIL,
        # and freeing a numpy array there corrupts the heap.
        tensors = [_tensor(name, value) for name, value in outputs.items()]
        self._responses.send(pb_utils.InferenceResponse(tensors), is_final=is_final)


def _tensor(name: str, value: Value) -> Any:
    if isinstance(value, bytes):
        return pb_utils.Tensor(name, np.array([value], dtype=np.object_))  # (1,)
    if isinstance(value, float):
        return pb_utils.Tensor(name, np.array([value], dtype=np.float32))  # (1,)
    return pb_utils.Tensor(name, np.array([value], dtype=np.int64 if name == "seed" else np.int32))  # (1,)
