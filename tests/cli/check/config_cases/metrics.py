# SPDX-License-Identifier: Apache-2.0
"""Cases of the rules for metrics."""

from config_cases.case import Case, inert

_OLD = "Triton 2.51 rejects every model_metrics"
_FAMILY = 'metric_identifier { family: "nv_inference_first_response_histogram_ms" }'
_BUCKETS = "histogram_options { buckets: [ 1, 2 ] }"


def _tag(name: str, key: str, *, is_valid: bool) -> Case:
    config = inert(f'metric_tags {{ key: "{key}" value: "b" }}')
    if is_valid:
        return Case(name, config)
    return Case(name, config, "invalid-metric-tag", "Invalid label name", not_in_triton="it crashes Triton 2.51")


def _histogram(name: str, control: str, words: str = "") -> Case:
    config = inert(f"model_metrics {{ metric_control {{ {control} }} }}")
    return Case(name, config, "invalid-model-metrics" if words else None, words, not_in_triton=_OLD)


CASES = [
    _tag("tag", "a_1", is_valid=True),
    _tag("tag of a digit", "1", is_valid=True),
    _tag("tag with a hyphen", "a-b", is_valid=False),
    _tag("tag with an underscore first", "_a", is_valid=False),
    _histogram("histogram", f"{_FAMILY} {_BUCKETS}"),
    _histogram("histogram without an identifier", _BUCKETS, "metric control must specify 'metric_identifier'"),
    _histogram("histogram without a family", f"metric_identifier {{ }} {_BUCKETS}", "non-empty 'family'"),
    _histogram("histogram without options", _FAMILY, "metric control must specify 'histogram_options'"),
    _histogram("histogram without buckets", f"{_FAMILY} histogram_options {{ }}", "non-empty 'buckets'"),
]
