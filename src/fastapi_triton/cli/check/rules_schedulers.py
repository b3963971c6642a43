# SPDX-License-Identifier: Apache-2.0
"""Rules for batching, queues and the response cache. Triton checks them before it loads the backend."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi_triton.cli.check.repository import ModelFolder, queue_policy
from fastapi_triton.cli.check.rule import ERROR, Rules

RULES: Rules[ModelFolder] = Rules()


@RULES.add("invalid-max-batch-size", ERROR, advice="Use 0 for a model without a batch dimension, else 1 or more.")
def invalid_max_batch_size(model: ModelFolder) -> Iterator[str]:
    """Triton rejects a negative `max_batch_size`."""
    if model.max_batch_size < 0:
        yield f"'max_batch_size' must be non-negative value: it is {model.max_batch_size}"


@RULES.add(
    "invalid-dynamic-batching",
    ERROR,
    advice="Use batch sizes up to max_batch_size, priorities up to priority_levels, and preserve_ordering with neither "
    "priorities nor DELAY.",
)
def invalid_dynamic_batching(model: ModelFolder) -> Iterator[str]:
    """Triton rejects values out of range, and settings that contradict `preserve_ordering`."""
    batching: Mapping[str, Any] | None = model.settings.get("dynamic_batching")
    if batching is None:
        return
    yield from preferred_batch_sizes(model, batching, "dynamic batching preferred size")
    levels, default = int(batching.get("priority_levels", 0)), int(batching.get("default_priority_level", 0))
    policies: Mapping[str, Mapping[str, Any]] = batching.get("priority_queue_policy") or {}
    if levels:
        if not 1 <= default <= levels:
            yield f"default priority level must be in range [1, {levels}]: `default_priority_level` is {default}"
        for level in policies:
            if not 1 <= int(level) <= levels:
                yield f"priority queue policy must have priority level in range [1, {levels}]: its key is {level}"
    if batching.get("preserve_ordering"):
        if levels > 1:
            yield f"Only one priority level is allowed when 'preserve_ordering' is true: priority_levels is {levels}"
        for name, policy in {"default_queue_policy": queue_policy(model.settings), **policies}.items():
            if policy.get("timeout_action") == "DELAY" and policy.get("default_timeout_microseconds"):
                where = name if name == "default_queue_policy" else f"the policy of priority {name}"
                yield f"Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true: {where}"


@RULES.add("invalid-response-cache", ERROR, advice="Disable it.")
def invalid_response_cache(model: ModelFolder) -> Iterator[str]:
    """Triton's response cache supports neither decoupled models nor sequences."""
    if (model.settings.get("response_cache") or {}).get("enable"):
        is_declared = (model.settings.get("model_transaction_policy") or {}).get("decoupled")
        if is_declared or model.is_decoupled:
            where = "" if is_declared else ": a step is decoupled"
            yield f"Response Cache does not currently support a model with 'decoupled' transaction policy{where}"
        if "sequence_batching" in model.settings:
            yield "Response Cache does not currently support a model with sequence batching scheduler"


def preferred_batch_sizes(model: ModelFolder, batching: Mapping[str, Any], subject: str) -> Iterator[str]:
    """What is wrong with a scheduler's `preferred_batch_size`. `subject` is Triton's term for it."""
    sizes: Iterable[int] = batching.get("preferred_batch_size", ())
    for size in sizes:
        if size <= 0:
            yield f"{subject} must be positive: {size}"
        elif size > model.max_batch_size:
            yield f"{subject} must be <= max batch size: {size} is over max_batch_size {model.max_batch_size}"
