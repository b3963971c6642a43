# SPDX-License-Identifier: Apache-2.0
"""Request metrics for Prometheus. Several workers share files (`PROMETHEUS_MULTIPROC_DIR`)."""

import asyncio
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from fastapi_triton.core.request_record import STAGES, RequestRecord

PREFIX = "fastapi_triton"
# In seconds: from a small model's millisecond to a picture that waited for minutes.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# Models can return any code. Beyond this number all others count as `other`.
MAX_OUTCOMES = 200
_VERSION = re.compile(r"version=[0-9]{1,4}(\.[0-9]{1,4}){0,3}")

Refresh = Callable[[], None]


class _Series(NamedTuple):
    """The metrics of one method, route and model; `requests` by status and code, `stages` by name."""

    received: Counter
    sent: Counter
    cancelled: Counter
    duration: Histogram
    requests: dict[tuple[str, str], Counter]
    stages: dict[str, Histogram]


class Metrics:
    """The metrics of one process. `record` counts a request; `refreshes` run before the metrics are read."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.refreshes: list[Refresh] = []
        self.folder = shared_folder()
        # Finding a series by its labels takes longer than counting.
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._outcomes: set[tuple[int, str]] = set()
        labels = ("method", "route", "model")
        self._requests = self.counter("requests", "Requests that have ended", (*labels, "status", "code"))
        self._received = self.counter("received_bytes", "Bytes of request bodies", labels)
        self._sent = self.counter("sent_bytes", "Bytes of response bodies", labels)
        self._cancelled = self.counter(
            "cancelled", "Requests stopped at Triton because the client disconnected", labels
        )
        self._durations = Histogram(
            f"{PREFIX}_request_duration_seconds",
            "Time until the end of the response",
            labels,
            registry=self.registry,
            buckets=BUCKETS,
        )
        self._stages = Histogram(
            f"{PREFIX}_stage_duration_seconds",
            "Time of a request in a stage",
            (*labels, "stage"),
            registry=self.registry,
            buckets=BUCKETS,
        )
        if self.folder is None:
            # The app's own metrics too, and those of the process.
            self.registry.register(_Default())

    def counter(self, name: str, about: str, labels: Iterable[str] = ()) -> Counter:
        return Counter(f"{PREFIX}_{name}", about, tuple(labels), registry=self.registry)

    def record(self, record: RequestRecord) -> None:
        """Count a request that has ended."""
        labels = (record.method, record.route, record.model)
        series = self._series.get(labels)
        if series is None:
            received, sent, cancelled = (each.labels(*labels) for each in (self._received, self._sent, self._cancelled))
            series = self._series[labels] = _Series(received, sent, cancelled, self._durations.labels(*labels), {}, {})
        outcome = self._outcome(record.status, record.code)
        requests = series.requests.get(outcome)
        if requests is None:
            requests = series.requests[outcome] = self._requests.labels(*labels, *outcome)
        requests.inc()
        series.received.inc(record.received_bytes)
        series.sent.inc(record.sent_bytes)
        if record.is_cancelled:
            series.cancelled.inc()
        read_s, wait_s, triton_s, write_s = record.seconds
        durations = (
            read_s or None,
            # A request that reached Triton had a slot, even if it did not wait for it.
            wait_s if triton_s else wait_s or None,
            triton_s or None,
            write_s,
        )
        for stage, seconds in zip(STAGES, durations, strict=True):
            if seconds is not None:  # it reached this stage
                histogram = series.stages.get(stage)
                if histogram is None:
                    histogram = series.stages[stage] = self._stages.labels(*labels, stage)
                histogram.observe(seconds)
        series.duration.observe(record.total_s)

    def refresh(self) -> None:
        """Refresh the values that are not counted as they happen."""
        for refresh in self.refreshes:
            refresh()

    def _outcome(self, status: int, code: str) -> tuple[str, str]:
        """A request's labels. The status is 0 if there was no response."""
        code = code or ("ok" if 0 < status < 400 else "unanswered" if not status else "other")
        if (status, code) not in self._outcomes:
            if len(self._outcomes) >= MAX_OUTCOMES:
                return str(status), "other"
            self._outcomes.add((status, code))
        return str(status), code

    async def text(self, accept: str) -> tuple[bytes, str]:
        """All metrics of all workers in the format that the client accepts, and its media type."""
        self.refresh()
        encode, media_type = choose_encoder(_with_whole_versions(accept))
        return await asyncio.to_thread(lambda: encode(self._whole())), media_type

    def _whole(self) -> CollectorRegistry:
        if self.folder is None:
            return self.registry
        forget_the_dead(self.folder)
        whole = CollectorRegistry()
        MultiProcessCollector(whole, str(self.folder))  # type: ignore[no-untyped-call]
        return whole


def _with_whole_versions(accept: str) -> str:
    """The Accept header without invalid versions: prometheus_client compares them, and repeats them in a header."""

    def is_whole(media: str) -> bool:
        versions = (each.strip() for each in media.split(";") if each.strip().startswith("version="))
        return all(_VERSION.fullmatch(each) for each in versions)

    return ",".join(filter(is_whole, accept.split(",")))


def shared_folder() -> Path | None:
    """The folder in which several workers share metrics; None for one worker."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(folder) if folder else None


def forget_the_dead(folder: Path) -> None:
    """Remove the gauges of workers that ended; their counters stay."""
    for pid in {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*_*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # another worker was first
                mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:  # the process exists, under another user
            pass


class _Default(Collector):
    """prometheus_client's default registry, as a part of ours."""

    def collect(self) -> Iterable[Metric]:
        return REGISTRY.collect()

    def describe(self) -> Iterable[Metric]:
        """No names, so that none conflicts with ours."""
        return ()
