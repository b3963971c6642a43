# SPDX-License-Identifier: Apache-2.0
"""Cases of the rules for batching, queues and the response cache."""

from config_cases.case import Case, inert

_LEVELS = "priority_levels: 2 default_priority_level: 1"
_DELAY = "timeout_action: DELAY default_timeout_microseconds: 5"
_DECOUPLED = "model_transaction_policy { decoupled: true }"
_CACHE = "response_cache { enable: true }"


def _sizes(name: str, max_batch_size: str, code: str | None = None, words: str = "") -> Case:
    return Case(name, inert(f"max_batch_size: {max_batch_size}"), code, words)


def _batching(name: str, settings: str, words: str = "", *, batch: int = 8) -> Case:
    """A model with dynamic batching, which is broken if there are `words`."""
    code = "invalid-dynamic-batching" if words else None
    return Case(name, inert(f"max_batch_size: {batch} dynamic_batching {{ {settings} }}"), code, words)


CASES = [
    _sizes(
        "max_batch_size -1", "-1", "invalid-max-batch-size", "'max_batch_size' must be non-negative value: it is -1"
    ),
    _sizes("max_batch_size huge", "2147483647"),
    _batching("preferred size 0", "preferred_batch_size: 0", "dynamic batching preferred size must be positive: 0"),
    _batching("preferred size -1", "preferred_batch_size: -1", "must be positive: -1"),
    _batching("preferred size too large", "preferred_batch_size: [ 4, 9 ]", "must be <= max batch size: 9 is over"),
    _batching("preferred size without batching", "preferred_batch_size: 1", "over max_batch_size 0", batch=0),
    _batching("preferred sizes", "preferred_batch_size: [ 1, 8, 8 ]"),
    _batching("dynamic batching without batching", "", batch=0),
    _batching("no default priority", "priority_levels: 2", "default priority level must be in range [1, 2]"),
    _batching("default priority too high", "priority_levels: 2 default_priority_level: 3", "_priority_level` is 3"),
    _batching("default priority", "priority_levels: 2 default_priority_level: 2"),
    _batching("default priority without levels", "default_priority_level: 3"),
    _batching("policy of priority 0", f"{_LEVELS} priority_queue_policy {{ key: 0 value {{ }} }}", "its key is 0"),
    _batching("policy of priority 3", f"{_LEVELS} priority_queue_policy {{ key: 3 value {{ }} }}", "its key is 3"),
    _batching("policy of priority 2", f"{_LEVELS} priority_queue_policy {{ key: 2 value {{ }} }}"),
    _batching("policy without levels", "priority_queue_policy { key: 3 value { } }"),
    _batching("order and priorities", f"preserve_ordering: true {_LEVELS}", "Only one priority level is allowed"),
    _batching("order and one priority", "preserve_ordering: true priority_levels: 1 default_priority_level: 1"),
    _batching(
        "order and DELAY",
        f"preserve_ordering: true default_queue_policy {{ {_DELAY} }}",
        "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true: default_queue_policy",
    ),
    _batching(
        "order and DELAY of a priority",
        f"preserve_ordering: true priority_queue_policy {{ key: 1 value {{ {_DELAY} }} }}",
        "the policy of priority 1",
    ),
    _batching(
        "order and DELAY without a timeout", "preserve_ordering: true default_queue_policy { timeout_action: DELAY }"
    ),
    _batching("DELAY", f"default_queue_policy {{ {_DELAY} }}"),
    Case("cache of a decoupled model", inert(f"{_DECOUPLED} {_CACHE}"), "invalid-response-cache", "'decoupled'"),
    Case("cache of sequences", inert(f"sequence_batching {{ }} {_CACHE}"), "invalid-response-cache", "sequence"),
    Case("cache", inert(_CACHE)),
    Case("decoupled", inert(_DECOUPLED)),
    Case("dynamic and sequence batching", inert("dynamic_batching { } sequence_batching { }"), "unreadable-config"),
]
