# SPDX-License-Identifier: Apache-2.0
"""Gauges for Prometheus: slots in use, the state of Triton and its models, the lag of the event loop.

Their values are read from their owners, once a second and at every scrape.
"""

import asyncio
import importlib.metadata
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from fastapi_triton.core.background import BackgroundTask
from fastapi_triton.observability.metrics import PREFIX, Metrics

INTERVAL_S = 1.0
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# A gauge's value by label; of a gauge without labels, under "".
Reading = Mapping[str, float]


class Gauges:
    """Adds gauges to `metrics`, and updates them while `kept` is open."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lag = Histogram(
            f"{PREFIX}_event_loop_lag_seconds",
            "Delay of the event loop, and so of every request",
            registry=metrics.registry,
            buckets=_LAG_BUCKETS,
        )
        about = Gauge(
            f"{PREFIX}_info",
            "The frontend's version; always 1",
            ["version"],
            registry=metrics.registry,
            multiprocess_mode="max",
        )
        about.labels(importlib.metadata.version("fastapi-triton")).set(1)
        if metrics.folder is not None:
            metrics.refreshes.append(_ProcessNumbers(metrics).refresh)

    def add(
        self, name: str, about: str, read: Callable[[], Reading], *, label: str = "", is_shared: bool = False
    ) -> None:
        """Show what `read` gives. Workers' numbers are added up, unless it `is_shared`: all of them see the same."""
        gauge = Gauge(
            f"{PREFIX}_{name}",
            about,
            [label] if label else [],
            registry=self._metrics.registry,
            multiprocess_mode="livemostrecent" if is_shared else "livesum",
        )
        shown: set[str] = set()

        def refresh() -> None:
            values = read()
            for gone in shown - values.keys():
                # In the files of several workers a series cannot be removed.
                (gauge.labels(gone) if label else gauge).set(0)
            shown.update(values)
            for key, value in values.items():
                (gauge.labels(key) if label else gauge).set(value)

        self._metrics.refreshes.append(refresh)

    def count(self, name: str, about: str, read: Callable[[], Reading], *, label: str) -> None:
        """Show what `read` returns as a counter: by each label, a number that only grows."""
        counter = self._metrics.counter(name, about, [label])
        counted: dict[str, float] = {}

        def refresh() -> None:
            for key, value in read().items():
                counter.labels(key).inc(max(0.0, value - counted.get(key, 0.0)))
                counted[key] = value

        self._metrics.refreshes.append(refresh)

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Update the gauges, and measure the lag of the event loop."""
        return BackgroundTask("metrics", consequence="The values at `/metrics` may be old.").repeating(self._refresh)

    async def _refresh(self) -> float:
        loop = asyncio.get_running_loop()
        due = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        self._lag.observe(max(0.0, loop.time() - due))
        self._metrics.refresh()
        return 0.0


class _ProcessNumbers:
    """prometheus_client's own process metrics, which it does not share between workers."""

    def __init__(self, metrics: Metrics) -> None:
        self._collector = ProcessCollector(registry=None)
        self._cpu = Counter("process_cpu_seconds", "CPU time of all workers", registry=metrics.registry)
        self._cpu_s = 0.0
        self._gauges: dict[str, Gauge] = {}
        self._metrics = metrics

    def refresh(self) -> None:
        for family in self._collector.collect():
            for sample in family.samples:
                if sample.name == "process_cpu_seconds_total":
                    self._cpu.inc(max(0.0, sample.value - self._cpu_s))
                    self._cpu_s = sample.value
                else:
                    self._gauge(sample.name, family.documentation).set(sample.value)

    def _gauge(self, name: str, about: str) -> Gauge:
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, about, registry=self._metrics.registry, multiprocess_mode="liveall")
        return self._gauges[name]
