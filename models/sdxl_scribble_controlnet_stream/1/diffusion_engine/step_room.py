# SPDX-License-Identifier: Apache-2.0
"""The room of a step: rows, and memory for the adapters of its requests. Imports no torch."""

from diffusion_engine.request import LoRA
from diffusion_engine.request_state import RequestState


class StepRoom:
    """Takes requests while they fit; the first one always does.

    Args:
        max_lora_bytes: the memory for the adapters of a pass. Each combination of adapters and scales takes as much as
            the largest one (`loras.batch.AdapterStack`).
    """

    def __init__(self, *, max_rows: int, max_lora_bytes: float) -> None:
        self.taken: list[RequestState] = []
        self._max_rows = max_rows
        self._max_lora_bytes = max_lora_bytes
        self._num_rows = 0
        self._combinations: set[tuple[LoRA, ...]] = set()
        self._largest = 0  # bytes of a combination

    def take(self, state: RequestState) -> bool:
        """Take a request if it fits. Returns whether it does."""
        num_rows = self._num_rows + state.num_rows
        combinations = self._combinations | ({state.request.loras} if state.loras else set())
        largest = max(self._largest, sum(lora.num_bytes for lora in state.loras))
        if self.taken and (num_rows > self._max_rows or len(combinations) * largest > self._max_lora_bytes):
            return False
        self.taken.append(state)
        self._num_rows, self._combinations, self._largest = num_rows, combinations, largest
        return True
