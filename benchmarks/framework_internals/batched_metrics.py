# SPDX-License-Identifier: Apache-2.0
"""Metrics as the frontend once had them: plain lists, added to prometheus_client's private values once a second."""

from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import Histogram

from fastapi_triton.core.request_record import STAGES, RequestRecord
from fastapi_triton.observability.metrics import BUCKETS, Metrics


class _Series:
    """The requests of one method, route and model since the last flush."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[int, str], int] = {}
        self.received_bytes = 0
        self.sent_bytes = 0
        self.num_cancelled = 0
        # For each stage, and last for the whole request: the number of requests in each bucket, and their sum.
        self.counts = [[0] * (len(BUCKETS) + 1) for _ in range(len(STAGES) + 1)]
        self.sums_s = [0.0] * (len(STAGES) + 1)


class BatchedMetrics(Metrics):
    """The frontend's metrics, updated in batches."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: dict[tuple[str, str, str], _Series] = {}
        self.refreshes.append(self._flush)

    def record(self, record: RequestRecord) -> None:
        key = (record.method, record.route, record.model)
        series = self._pending.get(key)
        if series is None:
            series = self._pending[key] = _Series()
        outcome = (record.status, record.code)
        series.outcomes[outcome] = series.outcomes.get(outcome, 0) + 1
        series.received_bytes += record.received_bytes
        series.sent_bytes += record.sent_bytes
        series.num_cancelled += record.is_cancelled
        for index, seconds in enumerate((*record.seconds, record.total_s)):
            if seconds:
                series.counts[index][bisect_left(BUCKETS, seconds)] += 1
                series.sums_s[index] += seconds

    def _flush(self) -> None:
        pending, self._pending = self._pending, {}
        for labels, series in pending.items():
            for (status, code), count in series.outcomes.items():
                self._requests.labels(*labels, *self._outcome(status, code)).inc(count)
            self._received.labels(*labels).inc(series.received_bytes)
            self._sent.labels(*labels).inc(series.sent_bytes)
            self._cancelled.labels(*labels).inc(series.num_cancelled)
            *stages, whole = zip(series.counts, series.sums_s, strict=True)
            for stage, (counts, total_s) in zip(STAGES, stages, strict=True):
                _add(self._stages.labels(*labels, stage), counts, total_s)
            _add(self._durations.labels(*labels), *whole)


def _add(histogram: Histogram, counts: Sequence[int], total_s: float) -> None:
    histogram._sum.inc(total_s)
    for bucket, count in zip(histogram._buckets, counts, strict=True):
        if count:
            bucket.inc(count)
