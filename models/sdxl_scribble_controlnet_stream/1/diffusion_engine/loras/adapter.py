# SPDX-License-Identifier: Apache-2.0
"""A loaded adapter, and the cache of loaded adapters."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

# The two matrices of a layer: (r, in), and (r, out) with the adapter's own scale.
Matrices = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adapter:
    """The weights of a LoRA file on the engine's device."""

    sha256: str  # of the file
    down: torch.Tensor  # (r, I): the UNet's layers side by side, in the columns of a `Layout`
    up: torch.Tensor  # (r, O), with the adapter's own scale
    has_convolutions: bool  # else it has only the columns of the linear layers
    text: tuple[Mapping[str, Matrices], ...]  # of each text encoder, by layer

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def changes_texts(self) -> bool:
        return any(self.text)

    @property
    def num_bytes(self) -> int:
        matrices = [self.down, self.up, *(each for layers in self.text for pair in layers.values() for each in pair)]
        return sum(each.nbytes for each in matrices)


class AdapterCache:
    """The adapters that were used last, up to a number of bytes. From any thread.

    Args:
        load: loads an adapter by name.
        max_bytes: beyond this, the least recently used adapters are dropped. Running requests keep theirs.
    """

    def __init__(self, load: Callable[[str], Adapter], *, max_bytes: int) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    def get(self, name: str) -> Adapter:
        """An adapter, loaded if necessary. Only threads that want the same one wait for each other."""
        if (found := self._find(name)) is not None:
            return found
        with self._lock:
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:
            if (found := self._find(name)) is None:
                found = self._load(name)
                self._keep(name, found)
            return found

    def _find(self, name: str) -> Adapter | None:
        with self._lock:
            if name in self._adapters:
                self._adapters.move_to_end(name)
            return self._adapters.get(name)

    def _keep(self, name: str, adapter: Adapter) -> None:
        with self._lock:
            self._adapters[name] = adapter
            while sum(each.num_bytes for each in self._adapters.values()) > self._max_bytes:
                self._adapters.popitem(last=False)
