# SPDX-License-Identifier: Apache-2.0
"""Rules for the metrics that a config describes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, Rules

RULES: Rules[ModelFolder] = Rules()
_TAG = re.compile(r"(?!_)[A-Za-z0-9_]*")


@RULES.add("invalid-metric-tag", ERROR, advice="Use letters, digits and `_`, and start with a letter.")
def invalid_metric_tag(model: ModelFolder) -> Iterator[str]:
    """A metric tag whose key is no valid label crashes Triton."""
    for key in model.settings.get("metric_tags") or {}:
        if not _TAG.fullmatch(key):
            yield f"Invalid label name: metric_tags has the key `{key}`"


@RULES.add(
    "invalid-model-metrics",
    ERROR,
    advice="Give each metric_control a metric_identifier with a family, and histogram_options with buckets.",
)
def invalid_model_metrics(model: ModelFolder) -> Iterator[str]:
    """Triton rejects incomplete histograms. Triton 2.51 (release 24.10) rejects all of them."""
    controls: Sequence[Mapping[str, Any]] = (model.settings.get("model_metrics") or {}).get("metric_control", ())
    for control in controls:
        if "metric_identifier" not in control:
            yield "metric control must specify 'metric_identifier'"
        elif not control["metric_identifier"].get("family"):
            yield "metric identifier must specify non-empty 'family'"
        if "histogram_options" not in control:
            yield "metric control must specify 'histogram_options'"
        elif not control["histogram_options"].get("buckets"):
            yield "histogram options must specify non-empty 'buckets'"
