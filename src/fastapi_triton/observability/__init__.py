# SPDX-License-Identifier: Apache-2.0
"""Metrics, logs and traces.

This package owns metric names, log formats and the tracing configuration. It reads finished `RequestRecord`s and values
from other packages, and must not know where they come from.

| module | purpose |
| --- | --- |
| `metrics` | counters and histograms of requests, over all workers |
| `gauges` | the current state, sampled once a second |
| `access_log` | a log line for each request |
| `logging_config` | text and JSON log formats; escapes text from clients |
| `tracing` | FastAPI's OpenTelemetry configuration |
"""
