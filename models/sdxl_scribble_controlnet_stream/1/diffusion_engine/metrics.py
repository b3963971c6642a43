# SPDX-License-Identifier: Apache-2.0
"""The engine's metrics, in memory. `triton_adapter.watcher` publishes them on Triton's metrics port."""

import threading
from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

Kind = Literal["counter", "gauge"]
Series = tuple[str, tuple[tuple[str, str], ...]]

# Sums and counts instead of histograms, which the Python backend has only since 2024-12.
METRICS: Mapping[str, tuple[Kind, str]] = {
    "sdxl_engine_steps_total": ("counter", "Passes, by `size`"),
    "sdxl_engine_rows_total": ("counter", "Rows of all passes, by `size`"),
    "sdxl_engine_step_seconds_total": ("counter", "Time of all passes, by `size`"),
    "sdxl_engine_abandoned_passes_total": (
        "counter",
        "Further passes, which ended before the UNet since nobody waited for their requests, by `size`",
    ),
    "sdxl_engine_cached_steps_total": ("counter", "Steps that `cache` made without a pass, of ended requests"),
    "sdxl_engine_max_rows": ("gauge", "Row limit of a pass, by `size`"),
    "sdxl_engine_requests": ("gauge", "Requests in the engine, waiting or running"),
    "sdxl_engine_requests_total": ("counter", "Ended requests, by `how`: finished, cancelled, failed"),
    "sdxl_engine_queue_wait_seconds_total": ("counter", "Time from arrival to the first pass"),
    "sdxl_engine_started_total": ("counter", "Requests that had their first pass"),
    "sdxl_engine_first_step_seconds_total": ("counter", "Time from arrival to the end of the first pass"),
    "sdxl_engine_cancel_to_free_seconds_total": ("counter", "Time from a disconnect until the request's rows are free"),
    "sdxl_engine_decoders": ("gauge", "Processes that decode scribbles; at 0, requests with a scribble fail"),
    "sdxl_engine_decoders_ended_total": (
        "counter",
        "Such processes that crashed or were killed, by error `code`",
    ),
    "sdxl_engine_evictions_total": ("counter", "Requests that failed in a pass, by error `code`"),
}


class EngineMetrics:
    """Counters and gauges by name and labels; safe from any thread."""

    def __init__(self) -> None:
        self._values: dict[Series, float] = defaultdict(float)
        self._lock = threading.Lock()

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        with self._lock:
            self._values[_series(name, labels)] += amount

    def set(self, name: str, value: float, **labels: str) -> None:
        with self._lock:
            self._values[_series(name, labels)] = value

    def value(self, name: str, **labels: str) -> float:
        """The current value; 0 if it was never set."""
        with self._lock:
            return self._values.get(_series(name, labels), 0.0)

    def snapshot(self) -> dict[Series, float]:
        with self._lock:
            return dict(self._values)


def _series(name: str, labels: Mapping[str, str]) -> Series:
    if name not in METRICS:
        raise KeyError(name)
    return name, tuple(sorted(labels.items()))
