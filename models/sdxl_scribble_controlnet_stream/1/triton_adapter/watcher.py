# SPDX-License-Identifier: Apache-2.0
"""Cancels requests whose client disconnected, and publishes metrics. On a separate thread, since both call Triton."""

import threading
from collections.abc import Mapping
from typing import Any

import triton_python_backend_utils as pb_utils
from diffusion_engine.metrics import METRICS, EngineMetrics, Series
from diffusion_engine.request_state import RequestState, Status

from triton_adapter.response_stream import ResponseStream

# Shorter than a step of all but the smallest networks.
INTERVAL_S = 0.02
# Half a second: metrics are scraped every few seconds at most.
ROUNDS_PER_PUBLICATION = 25
ENDED = (Status.FINISHED, Status.CANCELLED, Status.FAILED)


class Watcher:
    """One thread that polls all requests of the engine. It sleeps while there are none."""

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
    """Publishes the engine's metrics on Triton's metrics port."""

    def __init__(self, metrics: EngineMetrics) -> None:
        self._metrics = metrics
        kinds = {"counter": pb_utils.MetricFamily.COUNTER, "gauge": pb_utils.MetricFamily.GAUGE}
        self._families = {
            name: pb_utils.MetricFamily(name=name, description=meaning, kind=kinds[kind])
            for name, (kind, meaning) in METRICS.items()
        }
        self._published: dict[Series, Any] = {}
        self._last: Mapping[Series, float] = {}

    def close(self) -> None:
        """Publish the last values and free the metrics: one that outlives `finalize` crashes the process at its end."""
        self.publish()
        self._published.clear()
        self._families.clear()

    def publish(self) -> None:
        now = self._metrics.snapshot()
        for series, value in now.items():
            if value == self._last.get(series):
                continue
            name, labels = series
            if series not in self._published:
                self._published[series] = self._families[name].Metric(labels=dict(labels))
            if METRICS[name][0] == "gauge":
                self._published[series].set(value)
            elif value > self._last.get(series, 0.0):
                self._published[series].increment(value - self._last.get(series, 0.0))
        self._last = now
