# SPDX-License-Identifier: Apache-2.0
"""The engine's events as Triton responses: `queued`, `progress`, `completed`, or an error; the last one is final."""

import base64
import json
import threading
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from diffusion_engine.errors import RequestError
from diffusion_engine.request_state import GeneratedPicture

from triton_adapter.response_stream import ResponseStream

# The names of Triton's codes, which become HTTP statuses; any other refusal is the caller's mistake, a 400.
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
    """TritonListener one request; the engine's `Listener`.

    `is_terse`: `queued` and one more event, whatever happens. A model that calls this one by BLS must ask for that: of
    several responses that come to it in a row, the second may meet the first on its way, and both wait for ever.
    """

    def __init__(self, responses: ResponseStream, *, is_terse: bool = False) -> None:
        self._responses = responses
        self._is_terse = is_terse
        # Held until `queued` is out, so that nothing overtakes it.
        self._is_queued = threading.Event()

    def queued(self) -> None:
        """At once: Triton notices a leaving caller only after a first response."""
        self._send({"event": b"queued"})
        self._is_queued.set()

    def described(self, info: dict[str, Any]) -> None:
        self._send({"event": b"described", "info": json.dumps(info).encode()}, is_final=True)

    def progress(self, step: int, num_steps: int, preview: bytes | None) -> None:
        if self._is_terse:
            return
        self._is_queued.wait()
        outputs: dict[str, bytes | int] = {"event": b"progress", "step": step, "num_steps": num_steps}
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
        self.refused(error)

    def refused(self, error: RequestError) -> None:
        """Without having been queued. Told twice, as an event and as Triton's error, which ends the stream.

        Whoever is terse gets the event alone: BLS never shows a decoupled model's error (Triton 2.51), and its iterator
        waits for ever if that is the last response.
        """
        self._send({"event": b"failed", "info": error.to_json().encode()}, is_final=self._is_terse)
        if not self._is_terse:
            code = getattr(pb_utils.TritonError, TRITON_CODES.get(error.code, "INVALID_ARG"))
            failure = pb_utils.InferenceResponse(error=pb_utils.TritonError(error.to_json(), code))
            self._responses.send(failure, is_final=True)

    def _send(self, outputs: dict[str, bytes | int], *, is_final: bool = False) -> None:
        # Held until they are sent: Triton drops those that the caller did not ask for without holding the GIL, and a
        # numpy array that ends there takes the heap with it.
        tensors = [_tensor(name, value) for name, value in outputs.items()]
        self._responses.send(pb_utils.InferenceResponse(tensors), is_final=is_final)


def _tensor(name: str, value: bytes | int) -> Any:
    if isinstance(value, bytes):
        return pb_utils.Tensor(name, np.array([value], dtype=np.object_))  # (1,)
    return pb_utils.Tensor(name, np.array([value], dtype=np.int64 if name == "seed" else np.int32))  # (1,)
