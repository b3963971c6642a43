# SPDX-License-Identifier: Apache-2.0
"""Metrics by prometheus_client's public API alone: every request increments and observes; the series are kept."""

from functools import lru_cache
from typing import NamedTuple

from prometheus_client import Counter, Histogram

from fastapi_triton.core.request_record import STAGES, RequestRecord
from fastapi_triton.observability.metrics import Metrics


class _Series(NamedTuple):
    """Those of one method, route and model."""

    received: Counter
    sent: Counter
    cancelled: Counter
    duration: Histogram
    stages: tuple[Histogram, ...]


class PublicMetrics(Metrics):
    """What the frontend counts, without batches."""

    def __init__(self) -> None:
        super().__init__()
        self._series = lru_cache(maxsize=None)(self._labelled)
        self._outcomes_of = lru_cache(maxsize=None)(self._requests.labels)

    def _labelled(self, *labels: str) -> _Series:
        return _Series(
            self._received.labels(*labels),
            self._sent.labels(*labels),
            self._cancelled.labels(*labels),
            self._durations.labels(*labels),
            tuple(self._stages.labels(*labels, stage) for stage in STAGES),
        )

    def record(self, record: RequestRecord) -> None:
        labels = (record.method, record.route, record.model)
        series = self._series(*labels)
        self._outcomes_of(*labels, *self._outcome(record.status, record.code)).inc()
        series.received.inc(record.received_bytes)
        series.sent.inc(record.sent_bytes)
        if record.is_cancelled:
            series.cancelled.inc()
        for stage, seconds in zip(series.stages, record.seconds, strict=True):
            if seconds:
                stage.observe(seconds)
        series.duration.observe(record.total_s)

    def flush(self) -> None:
        for refresh in self.refreshes:
            refresh()
