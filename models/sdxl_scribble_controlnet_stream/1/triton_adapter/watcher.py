# SPDX-License-Identifier: Apache-2.0
"""Cancels requests whose client left, and publishes metrics. Both message Triton, so not on the engine's thread."""

import threading
from collections.abc import Mapping
from typing import Any

import triton_python_backend_utils as pb_utils
from diffusion_engine.metrics import METRICS, EngineMetrics, Series
from diffusion_engine.request_state import RequestState, Status

from triton_adapter.response_stream import ResponseStream

# A denoise step takes longer than this on anything but a toy.
INTERVAL_S = 0.02
# Metrics are scraped every few seconds at most.
ROUNDS_PER_PUBLICATION = 25
ENDED = (Status.FINISHED, Status.CANCELLED, Status.FAILED)


class Watcher:
    """One thread over all requests that the engine holds; it sleeps while there are none."""

    def __init__(self, metrics: EngineMetrics) -> None:
        self._metrics = MetricsPublisher(metrics)
        self._watched: list[tuple[RequestState, ResponseStream]] = []
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join()

    def watch(self, state: RequestState, responses: ResponseStream) -> None:
        with self._changed:
            self._watched.append((state, responses))
            self._changed.notify()

    def _run(self) -> None:
        num_rounds = 0
        while not self._is_stopping:
            num_rounds += 1
            for state, responses in self._still_watched():
                if responses.is_cancelled():
                    state.cancel()
            if num_rounds % ROUNDS_PER_PUBLICATION == 0 or not self._watched:
                self._metrics.publish()
            with self._changed:
                self._changed.wait(INTERVAL_S if self._watched or self._is_stopping else None)
        self._metrics.close()

    def _still_watched(self) -> list[tuple[RequestState, ResponseStream]]:
        with self._changed:
            self._watched = [(each, responses) for each, responses in self._watched if each.status not in ENDED]
            return [(each, responses) for each, responses in self._watched if each.cancelled_at is None]


class MetricsPublisher:
    """The engine's counts on Triton's metrics port."""

    def __init__(self, metrics: EngineMetrics) -> None:
        self._metrics = metrics
        kinds = {"counter": pb_utils.MetricFamily.COUNTER, "gauge": pb_utils.MetricFamily.GAUGE}
        self._families = {
            name: pb_utils.MetricFamily(name=name, description=meaning, kind=kinds[kind])
            for name, (kind, meaning) in METRICS.items()
        }
        self._shown: dict[Series, Any] = {}
        self._last: Mapping[Series, float] = {}

    def close(self) -> None:
        """Let go of them while Triton listens: a metric that outlives `finalize` crashes the process on its way out."""
        self.publish()
        self._shown.clear()
        self._families.clear()

    def publish(self) -> None:
        now = self._metrics.snapshot()
        for series, value in now.items():
            if value == self._last.get(series):
                continue
            name, labels = series
            if series not in self._shown:
                self._shown[series] = self._families[name].Metric(labels=dict(labels))
            if METRICS[name][0] == "gauge":
                self._shown[series].set(value)
            else:
                self._shown[series].increment(value - self._last.get(series, 0.0))
        self._last = now
